//! Is this line JSON, and what is its key: found in one pass, without building anything.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// Why a line is refused.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NoJson {
    /// The column, in bytes, from 1.
    pub(crate) column: usize,
    /// What is wrong.
    pub(crate) message: String,
}

/// The string in the field `key_field` of the object in `line`: empty when there is none, or the line is
/// another value. Where a field stands twice the last one counts.
pub(crate) fn key_of<'a>(line: &'a [u8], key_field: &str) -> Result<Cow<'a, str>, NoJson> {
    let text = std::str::from_utf8(line).map_err(|error| NoJson {
        column: error.valid_up_to() + 1,
        message: "the line is no UTF-8".into(),
    })?;
    let mut json = serde_json::Deserializer::from_str(text);
    let found = Line { key_field }.deserialize(&mut json).and_then(|key| json.end().map(|()| key));
    found.map_err(|error| {
        let text = error.to_string();
        let message = text.split(" at line ").next().unwrap_or_default().to_owned();
        NoJson { column: error.column().max(1), message }
    })
}

struct Line<'f> {
    key_field: &'f str,
}

impl<'de> DeserializeSeed<'de> for Line<'_> {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        json.deserialize_any(self)
    }
}

/// Any value; of an object, the key.
impl<'de> Visitor<'de> for Line<'_> {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut key = Cow::Borrowed("");
        while let Some(is_key) = map.next_key_seed(Is(self.key_field))? {
            if is_key {
                key = map.next_value::<Text<'de>>()?.0;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(key)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Cow::Borrowed(""))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(""))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(""))
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(""))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(""))
    }

    fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(""))
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(""))
    }
}

/// Whether the name of a field is this one.
struct Is<'f>(&'f str);

impl<'de> DeserializeSeed<'de> for Is<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<bool, D::Error> {
        json.deserialize_str(self)
    }
}

impl Visitor<'_> for Is<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a field")
    }

    fn visit_str<E>(self, name: &str) -> Result<bool, E> {
        Ok(!self.0.is_empty() && name == self.0)
    }
}

/// A string as it stands in the line; any other value is an empty one.
struct Text<'de>(Cow<'de, str>);

impl<'de> serde::Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        json.deserialize_any(TextVisitor).map(Text)
    }
}

struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(text))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(text.to_owned()))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        Line { key_field: "" }.visit_map(map)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Self::Value, A::Error> {
        Line { key_field: "" }.visit_seq(list)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(""))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(""))
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(""))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(""))
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(""))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(line: &str) -> String {
        key_of(line.as_bytes(), "id").unwrap().into_owned()
    }

    #[test]
    fn the_key_is_the_string_field_of_the_object_itself() {
        for (line, expected) in [
            (r#"{"a":1,"id":"m-1","b":[{"id":"no"}]}"#, "m-1"),
            (r#"{"id":"caf\u00e9"}"#, "café"),
            (r#"{"id":"first","id":"last"}"#, "last"),
            (r#"{"\u0069d":"escaped name"}"#, "escaped name"),
            (r#"{"id":7}"#, ""),
            (r#"{"id":{"id":"deeper"}}"#, ""),
            (r#"{"id":null,"x":-1.5e3}"#, ""),
            (r#"[{"id":"no"}]"#, ""),
            ("3", ""),
            ("-3.5", ""),
            ("null", ""),
            (" \"id\" \r", ""),
            ("true", ""),
        ] {
            assert_eq!(key(line), expected, "{line}");
        }
        assert_eq!(key_of(br#"{"":"x"}"#, "").unwrap(), "", "no field is the key");
    }

    #[test]
    fn what_is_no_json_is_refused_with_its_column() {
        for (line, column) in
            [(&b"{\"a\":}"[..], 6), (b"nope", 2), (b"{} {}", 4), (b"{\"a\":1", 6), (b"{\"a\":\"\xff\"}", 7)]
        {
            assert_eq!(key_of(line, "id").unwrap_err().column, column, "{line:?}");
        }
        let deep = "[".repeat(100_000);
        assert!(key_of(deep.as_bytes(), "id").is_err());
    }
}
