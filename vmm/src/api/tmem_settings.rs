//! What tmem is made of, and what of it may change while it works.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, de};
use tmem_device::device::Admission;
use tmem_device::governor::Settings;
use tmem_device::pool::Share;
use utoipa::ToSchema;

use super::quantity::Bytes;
use super::spill_settings::SpillSettings;
use crate::devices::virtio::tmem::TmemConfig;
use crate::machine::tmem::TmemService;

/// The longest poll, as for `--tmem poll=`.
const LONGEST_POLL_US: u32 = 10_000;

/// Pool, governor and device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TmemSettings {
    /// Host memory that the pool may take. 0 refuses every page.
    #[schema(inline)]
    pub size: Bytes,
    /// Which reclaimed pages a guest that leaves that to the host puts.
    #[serde(default)]
    #[schema(inline)]
    pub admission: AdmissionName,
    /// Whether pages are compressed when room is short.
    #[serde(default = "yes")]
    pub compression: bool,
    /// Whether all puts are refused.
    #[serde(default)]
    pub frozen: bool,
    /// For how long the worker looks for more puts before it sleeps, in microseconds. Without: 50, or 0 where the VMM has a
    /// single CPU.
    #[serde(
        default,
        deserialize_with = "poll",
        skip_serializing_if = "Option::is_none"
    )]
    #[schema(maximum = 10000)]
    pub poll_us: Option<u32>,
    /// What the guest may have of the pool.
    #[serde(default)]
    #[schema(inline)]
    pub share: ShareSettings,
    /// How the size follows the host's memory. Without, it is fixed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub governor: Option<GovernorSettings>,
    /// Where the pool puts what it has no room for. Without, it refuses that, or drops it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spill: Option<SpillSettings>,
}

fn yes() -> bool {
    true
}

fn poll<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u32>, D::Error> {
    match Option::<u32>::deserialize(from)? {
        Some(us) if us > LONGEST_POLL_US => Err(de::Error::custom(format!(
            "poll_us is {LONGEST_POLL_US} at most, not {us}"
        ))),
        us => Ok(us),
    }
}

/// Which reclaimed pages are put.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum AdmissionName {
    /// All of them.
    Always,
    /// Those that were used more than once.
    SecondChance,
    /// Those, and others as long as such pages are read again.
    #[default]
    Adaptive,
}

impl From<AdmissionName> for Admission {
    fn from(name: AdmissionName) -> Self {
        match name {
            AdmissionName::Always => Admission::Always,
            AdmissionName::SecondChance => Admission::SecondChance,
            AdmissionName::Adaptive => Admission::Adaptive,
        }
    }
}

impl From<Admission> for AdmissionName {
    fn from(admission: Admission) -> Self {
        match admission {
            Admission::Always => AdmissionName::Always,
            Admission::SecondChance => AdmissionName::SecondChance,
            Admission::Adaptive => AdmissionName::Adaptive,
        }
    }
}

/// What a guest may have of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ShareSettings {
    /// Of two guests of a pool, one with twice the weight may hold twice as much before it is asked to make room.
    #[schema(value_type = u64, minimum = 1, maximum = 4294967295_i64)]
    #[serde(deserialize_with = "weight")]
    pub weight: u32,
    /// Other guests cannot push this one below; at most the maximum, and the pool's size.
    #[schema(inline)]
    pub minimum: Bytes,
    /// This guest may have at most this. Without: the whole pool.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub maximum: Option<Bytes>,
}

fn weight<'de, D: Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
    match u32::deserialize(from)? {
        0 => Err(de::Error::custom("a weight is 1 at least")),
        weight => Ok(weight),
    }
}

impl Default for ShareSettings {
    fn default() -> Self {
        ShareSettings {
            weight: 1,
            minimum: Bytes(0),
            maximum: None,
        }
    }
}

impl From<ShareSettings> for Share {
    fn from(share: ShareSettings) -> Self {
        Share {
            weight: share.weight,
            minimum: share.minimum.0,
            maximum: share.maximum.map_or(u64::MAX, |bytes| bytes.0),
        }
    }
}

/// What the governor keeps to. What is left out is as docs/governor.md says, by the pool's size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GovernorSettings {
    /// The pool is not made smaller than this; at most its size.
    #[schema(inline)]
    pub minimum: Bytes,
    /// Memory of the host, or the cgroup, that is left to others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reserve: Option<Bytes>,
    /// PSI's `some avg10` from which on memory is short, in percent.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "percent")]
    #[schema(minimum = 0, maximum = 100)]
    pub pressure_percent: Option<f64>,
    /// How long nothing must have been short before the pool grows, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>, maximum = 4294967295_i64)]
    pub quiet_seconds: Option<u32>,
    /// How much it grows in a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub growth: Option<Bytes>,
}

fn percent<'de, D: Deserializer<'de>>(from: D) -> Result<Option<f64>, D::Error> {
    match Option::<f64>::deserialize(from)? {
        Some(percent) if !(0.0..=100.0).contains(&percent) => Err(de::Error::custom(format!(
            "pressure_percent is 0 to 100, not {percent}"
        ))),
        percent => Ok(percent),
    }
}

impl GovernorSettings {
    /// For a pool of `size` bytes.
    fn settings(&self, size: u64) -> Settings {
        let usual = Settings::new(size);
        Settings {
            minimum: self.minimum.0.min(size),
            maximum: size,
            reserve: self.reserve.map_or(usual.reserve, |bytes| bytes.0),
            pressure: self.pressure_percent.unwrap_or(usual.pressure),
            quiet: self.quiet_seconds.map_or(usual.quiet, |seconds| {
                Duration::from_secs(u64::from(seconds))
            }),
            growth: self.growth.map_or(usual.growth, |bytes| bytes.0),
        }
    }
}

/// What is to change. What is left out, or null, stays; `"governor": null` alone says that there is to be none.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TmemPatch {
    /// Host memory that the pool may take, at most if it is governed. Holds at once; what is too much goes soon after.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<Bytes>,
    /// Which reclaimed pages a guest that leaves that to the host puts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub admission: Option<AdmissionName>,
    /// Whether pages are compressed when room is short.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compression: Option<bool>,
    /// Whether all puts are refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frozen: Option<bool>,
    /// What the guest may have of the pool; takes the place of all it might have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub share: Option<ShareSettings>,
    /// How the size follows the host's memory; takes the place of all that was set.
    #[serde(deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<GovernorSettings>)]
    pub governor: Option<Option<GovernorSettings>>,
}

/// Tells null from what is left out.
fn present<'de, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<Option<GovernorSettings>>, D::Error> {
    Option::deserialize(from).map(Some)
}

impl TmemSettings {
    /// A fixed pool of `size` bytes with everything as usual.
    pub fn new(size: u64) -> Self {
        TmemSettings {
            size: Bytes(size),
            admission: AdmissionName::default(),
            compression: true,
            frozen: false,
            poll_us: None,
            share: ShareSettings::default(),
            governor: None,
            spill: None,
        }
    }

    /// Whether a machine can be given all of it: what holds at any time, and what is set before the start alone.
    ///
    /// # Errors
    /// Two of the values contradict each other; names both.
    pub fn check_new(&self) -> Result<(), String> {
        let size = self.size.0;
        if let Some(SpillSettings {
            dirty: Some(Bytes(dirty)),
            ..
        }) = self.spill
            && dirty > size
        {
            return Err(format!(
                "spill: the {dirty} bytes that may be in memory alone are more than the pool's size of {size}; give less of \
                 them, or a larger size"
            ));
        }
        self.check()
    }

    /// Whether all of it can be meant at once. A pool that becomes smaller than what may be dirty is no contradiction: then
    /// less may be.
    ///
    /// # Errors
    /// Two of the values contradict each other; names both.
    pub fn check(&self) -> Result<(), String> {
        let size = self.size.0;
        let Bytes(minimum) = self.share.minimum;
        if let Some(Bytes(maximum)) = self.share.maximum
            && minimum > maximum
        {
            return Err(format!(
                "share: the minimum of {minimum} bytes is above the maximum of {maximum}; give a smaller minimum, or a larger \
                 maximum"
            ));
        }
        if minimum > size {
            return Err(format!(
                "share: the minimum of {minimum} bytes is above the pool's size of {size}; give a smaller minimum, or a larger \
                 size"
            ));
        }
        match self.governor {
            Some(GovernorSettings {
                minimum: Bytes(minimum),
                ..
            }) if minimum > size => Err(format!(
                "governor: the minimum of {minimum} bytes is above the pool's size of {size}; give a smaller minimum, or a \
                 larger size"
            )),
            _ => Ok(()),
        }
    }

    /// With what `patch` changes.
    pub fn patched(&self, patch: &TmemPatch) -> Self {
        TmemSettings {
            size: patch.size.unwrap_or(self.size),
            admission: patch.admission.unwrap_or(self.admission),
            compression: patch.compression.unwrap_or(self.compression),
            frozen: patch.frozen.unwrap_or(self.frozen),
            poll_us: self.poll_us,
            share: patch.share.unwrap_or(self.share),
            governor: patch.governor.unwrap_or(self.governor),
            spill: self.spill.clone(),
        }
    }

    /// Has the pool, the governor and the device be so from now on. The size holds when this returns.
    ///
    /// # Errors
    /// There is to be a governor, and no thread for it.
    pub fn apply(&self, service: &TmemService) -> std::io::Result<()> {
        let guest = service.device().guest();
        guest.freeze(self.frozen);
        guest.set_share(self.share.into());
        service.pool().set_compressing(self.compression);
        service.device().set_admission(self.admission.into());
        let size = self.size.0;
        let governed = self.governor.map(|governor| governor.settings(size));
        service.govern(governed)?;
        // A governed pool grows when the governor says so.
        if self.governor.is_none() && service.pool().size() != size || service.pool().size() > size
        {
            service.resize(size);
        }
        Ok(())
    }
}

/// The device as it is made; what is more than that is applied once it is there.
impl From<&TmemSettings> for TmemConfig {
    fn from(settings: &TmemSettings) -> Self {
        let mut config = TmemConfig {
            size: settings.size.0,
            minimum: settings
                .governor
                .map(|governor| governor.minimum.0.min(settings.size.0)),
            poll: settings
                .poll_us
                .map(|us| Duration::from_micros(u64::from(us))),
            spill: settings.spill.as_ref().map(Into::into),
            ..TmemConfig::default()
        };
        config.device.admission = settings.admission.into();
        config
    }
}

/// What `--tmem` says.
impl From<&TmemConfig> for TmemSettings {
    fn from(config: &TmemConfig) -> Self {
        TmemSettings {
            admission: config.device.admission.into(),
            // Ten milliseconds at most.
            poll_us: config
                .poll
                .map(|poll| poll.as_nanos().div_ceil(1000) as u32),
            governor: config.minimum.map(|minimum| GovernorSettings {
                minimum: Bytes(minimum),
                ..GovernorSettings::default()
            }),
            spill: config.spill.as_ref().map(Into::into),
            ..TmemSettings::new(config.size)
        }
    }
}

#[cfg(test)]
#[path = "tmem_settings_test.rs"]
mod tests;
