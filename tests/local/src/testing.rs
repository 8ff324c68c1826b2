//! A client for tests: signs with the SDK's own signer and sends over a real connection.

use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_sigv4::{
    http_request::{
        PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings,
        UriPathNormalizationMode, sign,
    },
    sign::v4,
};

/// Signs a request with the SDK's own signer.
pub fn signed(
    service: &str,
    key: (&str, &str, Option<&str>),
    mut request: http::Request<Vec<u8>>,
    at: SystemTime,
) -> http::Request<Vec<u8>> {
    let identity = Credentials::new(key.0, key.1, key.2.map(Into::into), None, "test").into();
    let mut settings = SigningSettings::default();
    if service == "s3" {
        settings.percent_encoding_mode = PercentEncodingMode::Single;
        settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
    }
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region("local-1")
        .name(service)
        .time(at)
        .settings(settings)
        .build()
        .unwrap()
        .into();
    let headers = request.headers().iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap()));
    let uri = request.uri().to_string();
    let body = SignableBody::Bytes(request.body());
    let signable = SignableRequest::new(request.method().as_str(), &uri, headers, body).unwrap();
    let (instructions, _) = sign(signable, &params).unwrap().into_parts();
    instructions.apply_to_request_http1x(&mut request);
    request
}

/// Sends a request to a server of this process, signed now; the status, the headers and the body that came back.
pub async fn send(
    client: &reqwest::Client,
    service: &str,
    key: (&str, &str, Option<&str>),
    request: http::Request<Vec<u8>>,
) -> reqwest::Result<(u16, http::HeaderMap, String)> {
    let now = crate::clock::now().into();
    let (parts, body) = signed(service, key, request, now).into_parts();
    let response = client.request(parts.method, parts.uri.to_string()).headers(parts.headers).body(body).send().await?;
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    Ok((status, headers, response.text().await?))
}

/// A client that gives up instead of hanging.
pub fn client() -> reqwest::Client {
    // The first test of the process installs it; for the others it is there already.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    reqwest::Client::builder().timeout(std::time::Duration::from_secs(20)).build().expect("a client without TLS")
}
