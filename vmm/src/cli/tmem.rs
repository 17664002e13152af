//! The texts of `--tmem`, `--tmem-settings` and `--tmem-fault`.

use std::str::FromStr;
use std::time::Duration;

use tmem_device::device::{Admission, EventFault};

use super::parse;
use crate::api::tmem_settings::TmemSettings;
use crate::devices::virtio::tmem::TmemConfig;

/// A worker that polls hears of nothing else, such as its end.
const LONGEST_POLL: Duration = Duration::from_millis(10);

impl FromStr for TmemConfig {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (mut size, mut minimum, mut poll, mut admission) = (None, None, None, None);
        for field in text.split(',') {
            let (key, value) = field.split_once('=').unwrap_or((field, ""));
            let again = match key {
                "size" => size.replace(parse::bytes(value)?).is_some(),
                "min" => minimum.replace(parse::bytes(value)?).is_some(),
                "poll" => poll.replace(parse_poll(value)?).is_some(),
                "admission" => admission.replace(parse_admission(value)?).is_some(),
                _ => {
                    return Err(format!(
                        "unknown tmem option '{key}'; known are size=, min=, poll= and admission="
                    ));
                }
            };
            if again {
                return Err(format!("tmem option '{key}' is given twice"));
            }
        }
        let size = size.ok_or("give size=SIZE, such as size=512M")?;
        if minimum.is_some_and(|minimum| minimum > size) {
            return Err(
                "min is the size's at most; give a smaller min=, or a larger size=".to_owned(),
            );
        }
        let mut config = TmemConfig {
            size,
            minimum,
            poll,
            ..TmemConfig::default()
        };
        config.device.admission = admission.unwrap_or_default();
        Ok(config)
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
    serde_json::from_str(text).map_err(|error| error.to_string())
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
