//! Amounts of memory, as a number of bytes or a text such as "512M".

use std::fmt;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::openapi::schema::{ObjectBuilder, OneOfBuilder, Schema, Type};
use utoipa::openapi::{RefOr, SchemaFormat};
use utoipa::{PartialSchema, ToSchema};

use crate::cli::parse;

/// The most that any amount may be: 1 TiB.
pub const LARGEST: u64 = 1 << 40;

/// Bytes, 1 TiB at most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Bytes(pub u64);

/// Guest memory in bytes: whole MiB, from 16 MiB to 1 TiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Memory(pub u64);

struct Amount;

impl Visitor<'_> for Amount {
    type Value = u64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number of bytes, or a text such as \"512M\"")
    }

    fn visit_u64<E: de::Error>(self, bytes: u64) -> Result<u64, E> {
        Ok(bytes)
    }

    fn visit_i64<E: de::Error>(self, bytes: i64) -> Result<u64, E> {
        u64::try_from(bytes).map_err(|_| E::invalid_value(de::Unexpected::Signed(bytes), &self))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<u64, E> {
        parse::bytes(text).map_err(E::custom)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let bytes = from.deserialize_any(Amount)?;
        if bytes > LARGEST {
            return Err(de::Error::custom(format!(
                "{bytes} bytes are more than 1 TiB; give less"
            )));
        }
        Ok(Bytes(bytes))
    }
}

impl<'de> Deserialize<'de> for Memory {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let Bytes(bytes) = Bytes::deserialize(from)?;
        if bytes < crate::machine::memory::MIN || !bytes.is_multiple_of(1 << 20) {
            return Err(de::Error::custom(format!(
                "guest memory of {bytes} bytes is not possible; give at least 16M, in whole MiB"
            )));
        }
        Ok(Memory(bytes))
    }
}

/// A number in this range, or a text of this pattern.
fn schema(what: &str, range: (u64, u64), unit: u64, pattern: &str) -> RefOr<Schema> {
    let mut number = ObjectBuilder::new()
        .schema_type(Type::Integer)
        .format(Some(SchemaFormat::Custom("int64".to_owned())))
        .minimum(Some(range.0 as f64))
        .maximum(Some(range.1 as f64));
    if unit > 1 {
        number = number.multiple_of(Some(unit as f64));
    }
    let text = ObjectBuilder::new()
        .schema_type(Type::String)
        .pattern(Some(pattern));
    OneOfBuilder::new()
        .description(Some(what))
        .item(number)
        .item(text)
        .into()
}

impl PartialSchema for Bytes {
    fn schema() -> RefOr<Schema> {
        let what = "Bytes, or a text such as \"512M\" (powers of 1024)";
        schema(what, (0, LARGEST), 1, "^([0-9]{1,4}[KMG]?|1T)$")
    }
}

impl ToSchema for Bytes {}

impl PartialSchema for Memory {
    fn schema() -> RefOr<Schema> {
        let what = "Bytes, whole MiB; or a text such as \"512M\"";
        let pattern = "^((1[6-9]|[2-9][0-9]|[1-9][0-9]{2,4})M|[1-9][0-9]{0,2}G)$";
        schema(what, (16 << 20, LARGEST), 1 << 20, pattern)
    }
}

impl ToSchema for Memory {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_texts_are_amounts_within_bounds() {
        let bytes = |text: &str| {
            serde_json::from_str::<Bytes>(text)
                .map(|bytes| bytes.0)
                .ok()
        };
        assert_eq!(bytes("4096"), Some(4096));
        assert_eq!(bytes("\"2G\""), Some(2 << 30));
        assert_eq!(bytes("\"1T\""), Some(LARGEST));
        for wrong in [
            "-1",
            "1.5",
            "\"\"",
            "\"x\"",
            "1099511627777",
            "true",
            "null",
        ] {
            assert_eq!(bytes(wrong), None, "{wrong}");
        }
        let memory = |text: &str| serde_json::from_str::<Memory>(text).is_ok();
        assert!(memory("\"16M\"") && memory("16777216") && memory("\"3G\""));
        assert!(!memory("\"15M\"") && !memory("16777217") && !memory("0"));
    }
}
