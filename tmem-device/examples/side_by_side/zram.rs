//! zram: a device of our own, with its default algorithm, read and written past the page cache.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;

use tmem_device::pool::Page;
use tmem_device::wire::PAGE_SIZE;

const CONTROL: &str = "/sys/class/zram-control";

pub struct Zram {
    number: u32,
    device: Option<File>,
}

/// As O_DIRECT wants it.
#[repr(align(4096))]
struct Aligned(Page);

impl Zram {
    /// Makes a device for `pages` pages, which is removed again in the end.
    pub fn new(pages: usize) -> Result<Self, String> {
        let hot_add = format!("{CONTROL}/hot_add");
        if !fs::exists(CONTROL).unwrap_or(false) {
            // Where it is a module; if this fails, the next step says so.
            let _ = std::process::Command::new("modprobe").arg("zram").status();
        }
        let number = fs::read_to_string(&hot_add).map_err(|error| format!("{hot_add}: {error}"))?;
        let number = number
            .trim()
            .parse()
            .map_err(|error| format!("{hot_add}: {error}"))?;
        let mut zram = Zram {
            number,
            device: None,
        };
        let disksize = zram.attribute("disksize");
        fs::write(&disksize, (pages * PAGE_SIZE).to_string())
            .map_err(|error| format!("{}: {error}", disksize.display()))?;
        let path = format!("/dev/zram{number}");
        if !fs::exists(&path).unwrap_or(false) {
            zram.make_node(&path)?;
        }
        let device = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_DIRECT)
            .open(&path);
        zram.device = Some(device.map_err(|error| format!("{path}: {error}"))?);
        Ok(zram)
    }

    /// Where no udev does.
    fn make_node(&self, path: &str) -> Result<(), String> {
        let dev = fs::read_to_string(self.attribute("dev")).map_err(|error| error.to_string())?;
        let (major, minor) = dev.trim().split_once(':').ok_or("no device number")?;
        let made = std::process::Command::new("mknod")
            .args([path, "b", major, minor])
            .status();
        match made {
            Ok(status) if status.success() => Ok(()),
            other => Err(format!("mknod {path}: {other:?}")),
        }
    }

    fn attribute(&self, name: &str) -> PathBuf {
        format!("/sys/block/zram{}/{name}", self.number).into()
    }

    fn device(&self) -> &File {
        self.device.as_ref().expect("open until the end")
    }

    pub fn write(&self, pages: &[Page]) {
        let mut data = Aligned([0; _]);
        for (number, page) in pages.iter().enumerate() {
            data.0 = *page;
            self.device()
                .write_all_at(&data.0, (number * PAGE_SIZE) as u64)
                .expect("zram has memory");
        }
    }

    pub fn read(&self, pages: &[Page], compare: bool) {
        let mut data = Aligned([0; _]);
        for (number, page) in pages.iter().enumerate() {
            self.device()
                .read_exact_at(&mut data.0, (number * PAGE_SIZE) as u64)
                .expect("it was written");
            assert!(!compare || data.0 == *page, "zram's page {number} is wrong");
        }
    }

    /// Bytes that all pages are kept as, and bytes of memory that they take: compr_data_size and mem_used_total of mm_stat.
    pub fn used(&self) -> Option<(u64, u64)> {
        let stat = fs::read_to_string(self.attribute("mm_stat")).ok()?;
        let mut fields = stat.split_whitespace().skip(1);
        let kept = fields.next()?.parse().ok()?;
        Some((kept, fields.next()?.parse().ok()?))
    }
}

impl Drop for Zram {
    fn drop(&mut self) {
        self.device = None;
        let removed = fs::write(self.attribute("reset"), "1")
            .and_then(|()| fs::write(format!("{CONTROL}/hot_remove"), self.number.to_string()));
        if let Err(error) = removed {
            eprintln!("/dev/zram{} could not be removed: {error}", self.number);
        }
    }
}
