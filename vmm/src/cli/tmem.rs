//! The texts of `--tmem`, `--tmem-settings` and `--tmem-fault`.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

use tmem_device::device::{Admission, EventFault};
use tmem_device::tier::disk::{DiskConfig, MIN_SIZE};

use super::parse;
use crate::api::tmem_settings::TmemSettings;
use crate::devices::virtio::tmem::{SpillConfig, TmemConfig};

/// A worker that polls hears of nothing else, such as its end.
const LONGEST_POLL: Duration = Duration::from_millis(10);

/// The fields that `--tmem` may have.
const FIELDS: [&str; 9] = [
    "size",
    "min",
    "poll",
    "admission",
    "spill",
    "spill-size",
    "spill-dirty",
    "spill-cache",
    "spill-overwrite",
];

/// The fields of a text, each of which is given once at most.
struct Fields<'a>(BTreeMap<&'a str, &'a str>);

impl<'a> Fields<'a> {
    fn split(text: &'a str) -> Result<Self, String> {
        let mut fields = BTreeMap::new();
        for field in text.split(',') {
            let (key, value) = field.split_once('=').unwrap_or((field, ""));
            if !FIELDS.contains(&key) {
                return Err(format!(
                    "unknown tmem option '{key}'; known are {}",
                    FIELDS.join(", ")
                ));
            }
            if fields.insert(key, value).is_some() {
                return Err(format!("tmem option '{key}' is given twice"));
            }
        }
        Ok(Fields(fields))
    }

    /// Parses a field, if it is given.
    fn parse<T>(
        &self,
        key: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Option<T>, String> {
        let value = self.0.get(key);
        value.map(|value| parse(value)).transpose()
    }
}

impl FromStr for TmemConfig {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fields = Fields::split(text)?;
        let size = fields.parse("size", parse::bytes)?;
        let size = size.ok_or("give size=SIZE, such as size=512M")?;
        let mut config = TmemConfig {
            size,
            minimum: fields.parse("min", parse::bytes)?,
            poll: fields.parse("poll", parse_poll)?,
            spill: parse_spill(&fields)?,
            ..TmemConfig::default()
        };
        let admission = fields.parse("admission", parse_admission)?;
        config.device.admission = admission.unwrap_or_default();
        TmemSettings::from(&config).check_new()?;
        Ok(config)
    }
}

fn parse_spill(fields: &Fields<'_>) -> Result<Option<SpillConfig>, String> {
    let Some(path) = fields.0.get("spill") else {
        let lonely = fields.0.keys().find(|key| key.starts_with("spill-"));
        return match lonely {
            Some(key) => Err(format!("{key} needs spill=PATH, a file or block device")),
            None => Ok(None),
        };
    };
    if path.is_empty() {
        return Err("give spill=PATH, a file or block device".to_owned());
    }
    let size = fields.parse("spill-size", parse::bytes)?;
    let size = size.ok_or("spill=PATH needs spill-size=SIZE, such as spill-size=4G")?;
    if size < MIN_SIZE {
        return Err(format!("spill-size is {}M at least", MIN_SIZE >> 20));
    }
    Ok(Some(SpillConfig {
        disk: DiskConfig {
            overwrite: fields.parse("spill-overwrite", parse_flag)?.is_some(),
            ..DiskConfig::new(*path, size)
        },
        dirty: fields.parse("spill-dirty", parse::bytes)?,
        ephemeral: fields.parse("spill-cache", parse_flag)?.is_some(),
    }))
}

fn parse_flag(value: &str) -> Result<(), String> {
    match value {
        "" => Ok(()),
        _ => Err(format!(
            "spill-cache and spill-overwrite take no value, not '{value}'"
        )),
    }
}

fn parse_poll(text: &str) -> Result<Duration, String> {
    let time = parse::duration(text)?;
    if time > LONGEST_POLL {
        return Err(format!("poll is 10ms at most, not {text}"));
    }
    Ok(time)
}

fn parse_admission(text: &str) -> Result<Admission, String> {
    Admission::ALL
        .into_iter()
        .find(|admission| admission.to_string() == text)
        .ok_or_else(|| format!("admission is always, second-chance or adaptive, not '{text}'"))
}

/// Parses the value of `--tmem-settings`.
pub fn parse_settings(text: &str) -> Result<TmemSettings, String> {
    let settings: TmemSettings = serde_json::from_str(text).map_err(|error| error.to_string())?;
    settings.check_new()?;
    Ok(settings)
}

/// Parses the value of `--tmem-fault`.
pub fn parse_fault(text: &str) -> Result<EventFault, String> {
    let hold = text
        .strip_prefix("hold-events=")
        .and_then(|pages| pages.parse().ok());
    match (text, hold) {
        ("drop-events", _) => Ok(EventFault::Drop),
        (_, Some(pages)) => Ok(EventFault::Hold(pages)),
        _ => Err("give drop-events or hold-events=PAGES".to_owned()),
    }
}

#[cfg(test)]
#[path = "tmem_test.rs"]
mod tests;
