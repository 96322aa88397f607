//! Which handler answers a request, by method and path, and within which time.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http::header::HeaderValue;
use http::{Method, Response, StatusCode};
use tokio::time::timeout;

use super::Admin;
use super::answer::{Body, Failure, Outcome};

/// How long a handler may take to the head of its answer, where its route does not say.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes of one parameter, in a path or a query.
const PARAMETER_MAX: usize = 8 << 10;

/// A request whose sender may make it.
pub struct Call {
    pub admin: Arc<Admin>,
    parameters: BTreeMap<String, String>,
}

type Handling = Pin<Box<dyn Future<Output = Outcome> + Send>>;
type Handler = Box<dyn Fn(Call) -> Handling + Send + Sync>;

/// One line of the table.
pub struct Route {
    pub method: Method,
    /// Such as `/v1/apps/{app}/drain`.
    pub path: &'static str,
    timeout: Duration,
    /// Answered without a token: it tells nothing of what runs.
    is_open: bool,
    handler: Handler,
}

/// The table.
#[derive(Default)]
pub struct Router(Vec<Route>);

impl Call {
    /// A parameter of the path or the query, decoded.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.get(name).map(String::as_str)
    }

    /// The same where there has to be one.
    pub fn required(&self, name: &str) -> Result<&str, Failure> {
        self.parameter(name).filter(|value| !value.is_empty()).ok_or_else(|| {
            Failure::new(StatusCode::BAD_REQUEST, format!("the parameter `{name}` is missing"))
                .with_help(format!("add ?{name}=..."))
        })
    }
}

impl Router {
    pub fn get<F, R>(self, path: &'static str, handler: F) -> Router
    where
        F: Fn(Call) -> R + Send + Sync + 'static,
        R: Future<Output = Outcome> + Send + 'static,
    {
        self.add(Method::GET, path, REQUEST_TIMEOUT, handler)
    }

    pub fn post<F, R>(self, path: &'static str, handler: F) -> Router
    where
        F: Fn(Call) -> R + Send + Sync + 'static,
        R: Future<Output = Outcome> + Send + 'static,
    {
        self.add(Method::POST, path, REQUEST_TIMEOUT, handler)
    }

    /// A route whose answer may take longer to begin than that of others.
    pub fn add<F, R>(
        mut self,
        method: Method,
        path: &'static str,
        timeout: Duration,
        handler: F,
    ) -> Router
    where
        F: Fn(Call) -> R + Send + Sync + 'static,
        R: Future<Output = Outcome> + Send + 'static,
    {
        let handler: Handler = Box::new(move |call| Box::pin(handler(call)));
        self.0.push(Route { method, path, timeout, is_open: false, handler });
        self
    }

    /// Answers the route added last to those without a token, too.
    #[must_use]
    pub fn open(mut self) -> Router {
        if let Some(last) = self.0.last_mut() {
            last.is_open = true;
        }
        self
    }

    /// Whether this is asked without a token.
    pub fn is_open(&self, method: &Method, path: &str) -> bool {
        self.find(method, path).is_ok_and(|(route, _)| route.is_open)
    }

    pub fn routes(&self) -> &[Route] {
        &self.0
    }

    /// What is answered to a request for `path`, which came with `query`.
    pub async fn answer(
        &self,
        admin: &Arc<Admin>,
        method: &Method,
        (path, query): (&str, &str),
    ) -> Response<Body> {
        let (route, found) = match self.find(method, path) {
            Ok(found) => found,
            Err(refused) => return refused.answer(),
        };
        let mut parameters: BTreeMap<_, _> = query_parameters(query).collect();
        parameters.extend(found);
        if parameters.values().any(|value| value.len() > PARAMETER_MAX) {
            return Failure::new(StatusCode::BAD_REQUEST, "a parameter is too long").answer();
        }
        let call = Call { admin: Arc::clone(admin), parameters };
        match timeout(route.timeout, (route.handler)(call)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(failure)) => failure.answer(),
            Err(_) => {
                let error = format!("no answer within {:?}", route.timeout);
                Failure::new(StatusCode::GATEWAY_TIMEOUT, error).answer()
            }
        }
    }

    /// The route, with the parameters in the path; or why there is none.
    fn find(
        &self,
        method: &Method,
        path: &str,
    ) -> Result<(&Route, BTreeMap<String, String>), Failure> {
        let matching =
            || self.0.iter().filter_map(|route| Some((route, matched(route.path, path)?)));
        if let Some(found) = matching().find(|(route, _)| route.method == *method) {
            return Ok(found);
        }
        let allowed: Vec<_> = matching().map(|(route, _)| route.method.as_str()).collect();
        if allowed.is_empty() {
            let failure = Failure::new(StatusCode::NOT_FOUND, "no such path here");
            return Err(failure.with_help("GET /v1/openapi.json tells what there is"));
        }
        let allowed = allowed.join(", ");
        let failure = Failure::new(
            StatusCode::METHOD_NOT_ALLOWED,
            format!("{method} is not what this path is asked with"),
        );
        let failure = failure.with_help(format!("send {allowed}"));
        Err(Failure { allow: HeaderValue::try_from(allowed).ok(), ..failure })
    }
}

/// The parameters of `path`, if it is one that `pattern` means.
fn matched(pattern: &str, path: &str) -> Option<BTreeMap<String, String>> {
    let (mut parameters, mut segments) = (BTreeMap::new(), path.split('/'));
    for expected in pattern.split('/') {
        let segment = segments.next()?;
        match expected.strip_prefix('{').and_then(|it| it.strip_suffix('}')) {
            Some(name) if !segment.is_empty() => {
                parameters.insert(name.to_owned(), decoded(segment));
            }
            Some(_) => return None,
            None if expected == segment => {}
            None => return None,
        }
    }
    segments.next().is_none().then_some(parameters)
}

fn query_parameters(query: &str) -> impl Iterator<Item = (String, String)> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs.map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decoded(name), decoded(&value.replace('+', " ")))
    })
}

fn decoded(text: &str) -> String {
    percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_matched_segment_by_segment() {
        let pattern = "/v1/apps/{app}/drain";
        let app = |path| Some(matched(pattern, path)?.remove("app").expect("the parameter"));
        assert_eq!(app("/v1/apps/shop/drain").as_deref(), Some("shop"));
        assert_eq!(app("/v1/apps/a%2eb/drain").as_deref(), Some("a.b"));
        for other in
            ["/v1/apps//drain", "/v1/apps/drain", "/v1/apps/a/b/drain", "/v1/apps/a/drain/"]
        {
            assert_eq!(app(other), None, "{other}");
        }
    }

    #[test]
    fn a_query_is_decoded() {
        let query: Vec<_> = query_parameters("url=http%3A%2F%2Fa%2F&x=1+2&flag").collect();
        let expected = [("url", "http://a/"), ("x", "1 2"), ("flag", "")];
        assert_eq!(query, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }
}
