//! The table of everything that can be asked. `openapi.json` tells the same to others.

use super::router::Router;
use super::{
    apps, dashboard, explain, instances, logs, metrics, openapi, profiles, reload, status, upgrade,
};

/// Everything that can be asked by who may ask.
pub fn routes() -> Router {
    Router::default()
        .get("/", dashboard::page)
        .open()
        .get("/dashboard/{file}", dashboard::file)
        .open()
        .get("/v1/version", status::version)
        .get("/v1/status", status::status)
        .get("/v1/apps/{app}/instances", instances::instances)
        .get("/v1/logs", logs::logs)
        .get("/v1/reloads", reload::reloads)
        .add(http::Method::POST, "/v1/reload", reload::TIMEOUT, reload::reload)
        .get("/metrics", metrics::metrics)
        .add(http::Method::POST, "/v1/apps/{app}/profile", profiles::TIMEOUT, profiles::demand)
        .get("/v1/profiles", profiles::list)
        .get("/v1/profiles/{app}/{name}", profiles::file)
        .post("/v1/apps/{app}/drain", apps::drain)
        .post("/v1/apps/{app}/undrain", apps::undrain)
        .post("/v1/apps/{app}/kill", apps::kill)
        .get("/v1/explain", explain::explain)
        .add(http::Method::POST, "/v1/upgrade", upgrade::TIMEOUT, upgrade::upgrade)
        .get("/v1/openapi.json", openapi::openapi)
}

/// Method and path of each route, for tests.
pub fn names() -> Vec<(String, String)> {
    let login = ("POST".to_owned(), super::door::LOGIN.to_owned());
    let table = routes();
    let routes = table.routes().iter();
    routes.map(|route| (route.method.to_string(), route.path.to_owned())).chain([login]).collect()
}
