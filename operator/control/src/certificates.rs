//! The set's own certificate authority: its root, the leaf of each slot, and the operator's client certificate, which is made
//! in memory when it is needed and never stored.
//!
//! Root and leaves have no expiry date of their own: they live as long as the incarnation, which is ended by deleting its
//! objects and machines, and an expiry without a rotation would only be an outage on a day nobody remembers. RFC 5280 section
//! 4.1.2.5 gives 9999-12-31 for exactly that. The operator's own certificate is short-lived, because making it costs nothing.

use std::time::Duration;

use drover_api::{
    Incarnation, Millis, Slot, WriteId,
    records::{Bundle, CaRecord},
    wire::{self, OPERATOR_NAME},
};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};

#[derive(Debug, thiserror::Error)]
#[error("cannot make the certificate of {name}: {source}")]
pub struct CertificateError {
    name: String,
    source: rcgen::Error,
}

/// A certificate and its key.
pub struct Leaf {
    pub certificate_pem: String,
    pub key_pem: String,
}

/// How long the operator's client certificate is used; a new one is made at half of it.
pub const CLIENT_LIFE: Duration = Duration::from_secs(24 * 3600);

/// Machines whose clock is behind at first boot accept certificates that were just made.
const BACKDATED: Duration = Duration::from_secs(24 * 3600);

/// A fresh root and secret for one incarnation.
pub fn authority(
    incarnation: &Incarnation,
    now: Millis,
    write_id: WriteId,
    secret: String,
) -> Result<CaRecord, CertificateError> {
    // Short: a common name has at most 64 characters (RFC 5280, upper bound ub-common-name).
    let name = format!("drover {incarnation}");
    let made = || {
        let pair = KeyPair::generate()?;
        let mut params = params(&name, vec![], now)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&pair)?;
        Ok((certificate.pem(), pair.serialize_pem()))
    };
    let (certificate_pem, key_pem) = made().map_err(|source| CertificateError { name, source })?;
    Ok(CaRecord { write_id, certificate_pem, key_pem, secret })
}

/// What the machine in `slot` takes: it serves with this leaf, and knows its operator by the same root.
pub fn bundle(
    ca: &CaRecord,
    slot: Slot,
    incarnation: &Incarnation,
    now: Millis,
    write_id: WriteId,
) -> Result<Bundle, CertificateError> {
    let name = wire::leaf_name(slot, incarnation);
    let made = || {
        let mut params = params(&name, vec![name.clone()], now)?;
        // It serves only: a machine's leaf must not pass for the operator's at another machine.
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        sign(ca, params)
    };
    let leaf = made().map_err(|source| CertificateError { name: name.clone(), source })?;
    Ok(Bundle {
        write_id,
        ca_pem: ca.certificate_pem.clone(),
        certificate_pem: leaf.certificate_pem,
        key_pem: leaf.key_pem,
    })
}

/// The operator's client certificate for one set, good for [`CLIENT_LIFE`].
pub fn client(ca: &CaRecord, now: Millis) -> Result<Leaf, CertificateError> {
    let made = || {
        let mut params = params(OPERATOR_NAME, vec![OPERATOR_NAME.to_owned()], now)?;
        params.not_after = date_time_ymd(1970, 1, 1) + Duration::from_millis(now.0) + CLIENT_LIFE;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        sign(ca, params)
    };
    made().map_err(|source| CertificateError { name: OPERATOR_NAME.to_owned(), source })
}

fn params(name: &str, hosts: Vec<String>, now: Millis) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(hosts)?;
    params.distinguished_name.push(DnType::CommonName, name);
    let made = Duration::from_millis(now.0).saturating_sub(BACKDATED);
    params.not_before = date_time_ymd(1970, 1, 1) + made;
    params.not_after = date_time_ymd(9999, 12, 31) + Duration::from_secs(24 * 3600 - 1);
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn sign(ca: &CaRecord, mut params: CertificateParams) -> Result<Leaf, rcgen::Error> {
    let issuer = Issuer::from_ca_cert_pem(&ca.certificate_pem, KeyPair::from_pem(&ca.key_pem)?)?;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    let pair = KeyPair::generate()?;
    let certificate = params.signed_by(&pair, &issuer)?;
    Ok(Leaf { certificate_pem: certificate.pem(), key_pem: pair.serialize_pem() })
}

// === impl Leaf ===

impl std::fmt::Debug for Leaf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Leaf(key hidden)")
    }
}
