//! An `OpenAPI` description, and a strict check of JSON against it. It supports only the part of
//! JSON Schema that our description uses; an unknown keyword fails the test.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

/// A description of an HTTP API.
pub struct Description(Value);

impl Description {
    pub fn new(description: Value) -> Self {
        assert_eq!(description["openapi"], "3.1.0");
        Self(description)
    }

    pub fn document(&self) -> &Value {
        &self.0
    }

    pub fn paths(&self) -> Vec<String> {
        self.0["paths"].as_object().unwrap().keys().cloned().collect()
    }

    pub fn has(&self, method: &str, path: &str) -> bool {
        self.0["paths"][path].get(method.to_lowercase()).is_some()
    }

    /// Every method with its path, such as `GET /v1/tokens`.
    pub fn operations(&self) -> Vec<String> {
        let mut operations = Vec::new();
        for (path, item) in self.0["paths"].as_object().unwrap() {
            for method in ["get", "put", "post", "delete", "patch"] {
                if item.get(method).is_some() {
                    operations.push(format!("{} {path}", method.to_uppercase()));
                }
            }
        }
        operations
    }

    pub fn component(&self, name: &str) -> &Value {
        let schema = &self.0["components"]["schemas"][name];
        assert!(schema.is_object(), "no schema {name}");
        schema
    }

    /// The schema of a request body.
    #[track_caller]
    pub fn request(&self, method: &str, path: &str) -> &Value {
        let schema = &self.operation(method, path)["requestBody"]["content"]["application/json"]["schema"];
        assert!(schema.is_object(), "{method} {path} takes no body");
        schema
    }

    /// The schema of a response body; `None` if it has none. An undescribed status or media type
    /// fails the test.
    #[track_caller]
    pub fn response(&self, method: &str, path: &str, status: u16, media_type: &str) -> Option<&Value> {
        let response = &self.operation(method, path)["responses"][status.to_string()];
        assert!(response.is_object(), "{method} {path} does not answer with {status}");
        let content = response.get("content")?;
        let schema = &content[media_type]["schema"];
        assert!(schema.is_object(), "{method} {path} does not answer {status} with {media_type:?}");
        Some(schema)
    }

    #[track_caller]
    fn operation(&self, method: &str, path: &str) -> &Value {
        let operation = &self.0["paths"][path][method.to_lowercase()];
        assert!(operation.is_object(), "{method} {path} is not described");
        operation
    }
}

/// Fails the test unless the value matches the schema.
#[track_caller]
pub fn fits(description: &Description, schema: &Value, value: &Value) {
    if let Err(complaint) = check(description, schema, value) {
        panic!("{complaint}\nin {value:#}");
    }
}

/// Checks the value; the error describes the mismatch.
pub fn check(description: &Description, schema: &Value, value: &Value) -> Result<(), String> {
    let keywords = schema.as_object().unwrap_or_else(|| panic!("no schema: {schema}"));
    for (keyword, argument) in keywords {
        let no = |what: String| Err(format!("{what}: {value} for {schema}"));
        match keyword.as_str() {
            // `properties` checks `required` and `additionalProperties` too.
            "description" | "required" | "additionalProperties" => {}
            "$ref" => {
                let name = argument.as_str().unwrap().strip_prefix("#/components/schemas/").unwrap();
                check(description, description.component(name), value)?;
            }
            "type" => {
                let types: Vec<&str> = match argument {
                    Value::String(one) => vec![one],
                    several => several.as_array().unwrap().iter().map(|one| one.as_str().unwrap()).collect(),
                };
                if !types.iter().any(|name| is_of(name, value)) {
                    return no(format!("its type is not {types:?}"));
                }
            }
            "enum" => {
                if !argument.as_array().unwrap().contains(value) {
                    return no("it is not one of these".to_owned());
                }
            }
            "const" => {
                if argument != value {
                    return no("it is a different value".to_owned());
                }
            }
            "minimum" => {
                if value.as_i64().is_some_and(|number| number < argument.as_i64().unwrap()) {
                    return no("it is too small".to_owned());
                }
            }
            "contentEncoding" => {
                assert_eq!(argument, "base64");
                if value.as_str().is_some_and(|text| STANDARD.decode(text).is_err()) {
                    return no("it is not base64".to_owned());
                }
            }
            "format" => {
                assert_eq!(argument, "date-time");
                if value.as_str().is_some_and(|text| text.parse::<jiff::Timestamp>().is_err()) {
                    return no("it is not a time".to_owned());
                }
            }
            "pattern" => {
                // Only `^[0-9a-f]{N}$` is supported.
                let length = argument.as_str().unwrap().strip_prefix("^[0-9a-f]{").unwrap().strip_suffix("}$").unwrap();
                let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
                let good = |text: &str| text.len() == length.parse::<usize>().unwrap() && text.bytes().all(is_digit);
                if value.as_str().is_some_and(|text| !good(text)) {
                    return no("it does not look like this".to_owned());
                }
            }
            "items" => {
                for item in value.as_array().into_iter().flatten() {
                    check(description, argument, item)?;
                }
            }
            "properties" => properties(description, schema, value)?,
            "oneOf" => {
                let results = argument.as_array().unwrap().iter().map(|one| check(description, one, value));
                let (good, bad): (Vec<_>, Vec<_>) = results.partition(Result::is_ok);
                if good.len() != 1 {
                    return no(format!("it fits {} of these, not one ({bad:?})", good.len()));
                }
            }
            unknown => panic!("the schema has the unsupported keyword {unknown:?}"),
        }
    }
    Ok(())
}

fn properties(description: &Description, schema: &Value, value: &Value) -> Result<(), String> {
    let Some(members) = value.as_object() else { return Ok(()) };
    assert_eq!(schema["additionalProperties"], false, "a schema that is not strict: {schema}");
    for required in schema["required"].as_array().into_iter().flatten() {
        if !members.contains_key(required.as_str().unwrap()) {
            return Err(format!("{required} is missing in {value}"));
        }
    }
    for (name, member) in members {
        match schema["properties"].get(name) {
            Some(schema) => check(description, schema, member)?,
            None => return Err(format!("{name:?} is not described: {value}")),
        }
    }
    Ok(())
}

fn is_of(name: &str, value: &Value) -> bool {
    match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "null" => value.is_null(),
        other => panic!("the schema has the unsupported type {other:?}"),
    }
}
