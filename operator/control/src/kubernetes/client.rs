//! The client of the API server. Every answer to it is counted, as client-go does it: also those after which kube asks again by
//! itself (429, 503, 504), for these are what a person looks for.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use futures::{FutureExt, future::BoxFuture};
use http::{Request, Response};
use kube::{
    Client, Config,
    client::{Body, ClientBuilder, retry::RetryPolicy},
};
use tower::{Service, buffer::BufferLayer, layer::layer_fn, retry::RetryLayer};

use crate::metrics::Metrics;

/// What counts the answers of the service within.
#[derive(Clone, Debug)]
struct Counted<S> {
    inner: S,
    host: Arc<str>,
    metrics: Arc<Metrics>,
}

/// Requests that may wait in front of the connection, as many as in kube's own client: the publisher makes eight at a time, and
/// there are a few watches.
const WAITING_MAX: usize = 1024;

/// A client by that configuration. The API server need not be there yet.
///
/// # Errors
/// Where the configuration cannot be used.
pub fn client(mut config: Config, metrics: &Arc<Metrics>) -> kube::Result<Client> {
    // Asked again outside of what counts.
    config.default_retry = false;
    let host: Arc<str> = config.cluster_url.authority().map_or("", |authority| authority.as_str()).into();
    let metrics = Arc::clone(metrics);
    let counted = layer_fn(move |inner| Counted { inner, host: Arc::clone(&host), metrics: Arc::clone(&metrics) });
    let builder = ClientBuilder::try_from(config)?;
    // Whoever asks again needs a service that can be cloned.
    let builder = builder.with_layer(&BufferLayer::new(WAITING_MAX));
    Ok(builder.with_layer(&counted).with_layer(&RetryLayer::new(RetryPolicy::server_retry())).build())
}

impl<S, B> Service<Request<Body>> for Counted<S>
where
    S: Service<Request<Body>, Response = Response<B>>,
    S::Future: Send + 'static,
    S::Error: Send,
    B: Send,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<S::Response, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (host, metrics) = (Arc::clone(&self.host), Arc::clone(&self.metrics));
        let method = request.method().clone();
        let answer = self.inner.call(request);
        async move {
            let answer = answer.await;
            let status = answer.as_ref().ok().map(|response| response.status().as_u16());
            metrics.requested(&host, method.as_str(), status);
            answer
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use axum::{Router, http::StatusCode, routing::get};
    use tokio::net::TcpListener;

    use super::*;
    use crate::task::Task;

    fn request() -> Request<Vec<u8>> {
        Request::get("/version").body(Vec::new()).expect("a request")
    }

    #[tokio::test]
    async fn every_answer_counts_also_one_after_which_it_is_asked_again_and_none_at_all() {
        static BUSY: AtomicBool = AtomicBool::new(true);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let host = listener.local_addr().expect("an address").to_string();
        let answer = || async {
            match BUSY.swap(false, Ordering::SeqCst) {
                true => (StatusCode::TOO_MANY_REQUESTS, "busy"),
                false => (StatusCode::OK, "v1"),
            }
        };
        let app = Router::new().route("/version", get(answer));
        let server = Task(tokio::spawn(async move { axum::serve(listener, app).await.expect("it serves") }));
        let metrics = Arc::new(Metrics::default());
        let config = || Config::new(format!("http://{host}").parse().expect("a URL"));
        let told = client(config(), &metrics).expect("a client").request_text(request()).await.expect("an answer");
        assert_eq!(told, "v1");
        drop(server);
        // Nothing listens at a port that was just given back; no connection is left over in another client.
        let nobody = TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("an address");
        let config = Config::new(format!("http://{nobody}").parse().expect("a URL"));
        client(config, &metrics).expect("a client").request_text(request()).await.expect_err("nobody listens");
        let text = metrics.text();
        for line in [
            format!(r#"rest_client_requests_total{{code="429",method="GET",host="{host}"}} 1"#),
            format!(r#"rest_client_requests_total{{code="200",method="GET",host="{host}"}} 1"#),
            format!(r#"rest_client_requests_total{{code="<error>",method="GET",host="{nobody}"}} 1"#),
        ] {
            assert!(text.lines().any(|it| it == line), "{line} is not in {text}");
        }
    }
}
