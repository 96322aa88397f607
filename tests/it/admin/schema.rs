//! An OpenAPI document, and answers held against it: the part of JSON Schema that ours uses. What
//! this does not know fails, so nothing is taken for judged that was not.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

pub struct Document(Value);

impl Document {
    pub fn parse(text: &str) -> Document {
        Document(serde_json::from_str(text).expect("the document is JSON"))
    }

    /// Method and path of each operation.
    pub fn operations(&self) -> BTreeSet<(String, String)> {
        let paths = self.0["paths"].as_object().expect("paths");
        let of = |(path, methods): (&String, &Value)| {
            let methods: Vec<_> =
                methods.as_object().expect("methods").keys().map(|it| it.to_uppercase()).collect();
            methods.into_iter().map(|method| (method, path.clone())).collect::<Vec<_>>()
        };
        paths.iter().flat_map(of).collect()
    }

    /// The JSON values of an answer: the lines of a stream, or the whole.
    pub fn pieces<'a>(&self, method: &str, path: &str, text: &'a str) -> Vec<&'a str> {
        let content = &self.response(method, path, "200")["content"];
        let content = content.as_object().expect("content");
        match content.keys().next().map(String::as_str) {
            Some("application/jsonl") => text.lines().collect(),
            Some("application/json") => vec![text],
            Some("text/plain" | "text/html" | "text/javascript") => Vec::new(),
            other => panic!("{other:?} is not judged"),
        }
    }

    /// What is wrong with an answer, where it is not as the document says.
    pub fn judge(
        &self,
        method: &str,
        path: &str,
        code: &str,
        answer: &Value,
    ) -> Result<(), String> {
        let content = self.response(method, path, code)["content"].as_object().expect("content");
        let schema = &content.values().next().expect("a media type")["schema"];
        self.hold(schema, answer, "answer")
    }

    fn response(&self, method: &str, path: &str, code: &str) -> &Value {
        let operation = &self.0["paths"][path][method.to_lowercase()];
        self.resolve(&operation["responses"][code])
    }

    fn resolve<'a>(&'a self, value: &'a Value) -> &'a Value {
        match value.get("$ref").and_then(Value::as_str) {
            Some(target) => {
                let pointer = target.strip_prefix('#').expect("a reference within");
                self.resolve(self.0.pointer(pointer).unwrap_or_else(|| panic!("no {target}")))
            }
            None => value,
        }
    }

    fn hold(&self, schema: &Value, value: &Value, at: &str) -> Result<(), String> {
        let schema = self.resolve(schema).as_object().expect("a schema");
        for (keyword, expected) in schema {
            match keyword.as_str() {
                "description" | "required" | "additionalProperties" | "format" => {}
                "type" => has_type(expected, value, at)?,
                "enum" if !expected.as_array().expect("values").contains(value) => {
                    return Err(format!("{at}: {value} is none of {expected}"));
                }
                "enum" => {}
                "items" => {
                    for (index, item) in value.as_array().into_iter().flatten().enumerate() {
                        self.hold(expected, item, &format!("{at}[{index}]"))?;
                    }
                }
                "oneOf" => {
                    let all = expected.as_array().expect("schemas");
                    let fits = |one: &&Value| self.hold(one, value, at).is_ok();
                    if all.iter().filter(fits).count() != 1 {
                        let why: Vec<_> =
                            all.iter().filter_map(|one| self.hold(one, value, at).err()).collect();
                        return Err(format!("{at} is not one of them: {why:?}"));
                    }
                }
                "properties" => self.hold_properties(schema, value, at)?,
                other => panic!("the schema's keyword {other} is not judged"),
            }
        }
        match (schema.get("format").and_then(Value::as_str), value.as_str()) {
            (Some("date-time"), Some(text)) => is_time(text, at),
            (Some("date-time") | None, _) => Ok(()),
            (Some(other), _) => panic!("the format {other} is not judged"),
        }
    }

    fn hold_properties(
        &self,
        schema: &Map<String, Value>,
        value: &Value,
        at: &str,
    ) -> Result<(), String> {
        let Some(object) = value.as_object() else { return Ok(()) };
        let properties = schema["properties"].as_object().expect("properties");
        assert_eq!(schema["additionalProperties"], false, "{at}: others are not allowed");
        for name in schema["required"].as_array().expect("names") {
            if !object.contains_key(name.as_str().expect("a name")) {
                return Err(format!("{at} has no {name}"));
            }
        }
        for (name, value) in object {
            let Some(schema) = properties.get(name) else {
                return Err(format!("{at}.{name} is not in the document"));
            };
            self.hold(schema, value, &format!("{at}.{name}"))?;
        }
        Ok(())
    }
}

fn has_type(expected: &Value, value: &Value, at: &str) -> Result<(), String> {
    let is = |name: &Value| match name.as_str().expect("a type") {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        "number" => value.is_number(),
        "integer" => value.is_i64() || value.is_u64(),
        other => panic!("the type {other} is not judged"),
    };
    let fits = match expected {
        Value::Array(names) => names.iter().any(is),
        name => is(name),
    };
    if fits { Ok(()) } else { Err(format!("{at}: {value} is no {expected}")) }
}

/// RFC 3339 in UTC, as far as its form goes.
fn is_time(text: &str, at: &str) -> Result<(), String> {
    let form: String = text.chars().map(|it| if it.is_ascii_digit() { '0' } else { it }).collect();
    let (seconds, fraction) = (form.get(..19), form.get(19..).unwrap_or_default());
    let is_fraction = fraction == "Z"
        || fraction
            .strip_prefix('.')
            .and_then(|it| it.strip_suffix('Z'))
            .is_some_and(|it| !it.is_empty() && it.bytes().all(|byte| byte == b'0'));
    match seconds == Some("0000-00-00T00:00:00") && is_fraction {
        true => Ok(()),
        false => Err(format!("{at}: {text} is no time in UTC")),
    }
}
