//! Just enough JSON to answer `/inspect`.

use crate::Census;

/// What `/inspect` tells about a request and the instance that serves it.
pub struct Inspection {
    pub method: String,
    pub scheme: String,
    pub authority: String,
    pub path_with_query: String,
    pub headers: Vec<(String, Vec<u8>)>,
    pub census: Census,
    pub arguments: Vec<String>,
    pub environment: Vec<(String, String)>,
}

impl Inspection {
    pub fn to_json(&self) -> String {
        let headers: Vec<_> = self
            .headers
            .iter()
            .map(|(name, value)| (name.clone(), String::from_utf8_lossy(value).into_owned()))
            .collect();
        object(&[
            ("method", string(&self.method)),
            ("scheme", string(&self.scheme)),
            ("authority", string(&self.authority)),
            ("path_with_query", string(&self.path_with_query)),
            ("headers", pairs(&headers)),
            ("instance", string(&self.census.instance.to_string())),
            ("served", self.census.served.to_string()),
            ("concurrent", self.census.concurrent.to_string()),
            (
                "args",
                array(self.arguments.iter().map(|argument| string(argument))),
            ),
            ("env", {
                let environment: Vec<_> = self
                    .environment
                    .iter()
                    .map(|(name, value)| (name.as_str(), string(value)))
                    .collect();
                object(&environment)
            }),
        ])
    }
}

pub fn string(text: &str) -> String {
    let mut json = String::from('"');
    for character in text.chars() {
        match character {
            '"' => json.push_str("\\\""),
            '\\' => json.push_str("\\\\"),
            control if control < ' ' => json.push_str(&format!("\\u{:04x}", control as u32)),
            other => json.push(other),
        }
    }
    json.push('"');
    json
}

pub fn array(items: impl Iterator<Item = String>) -> String {
    format!("[{}]", items.collect::<Vec<_>>().join(","))
}

pub fn object(members: &[(&str, String)]) -> String {
    let members: Vec<_> = members
        .iter()
        .map(|(name, value)| format!("{}:{value}", string(name)))
        .collect();
    format!("{{{}}}", members.join(","))
}

pub fn pairs(items: &[(String, String)]) -> String {
    array(
        items
            .iter()
            .map(|(name, value)| array([string(name), string(value)].into_iter())),
    )
}
