//! What came out: as JSON, or as a table with the bars that the pool is held to.

use serde_json::json;
use tmem_device::pool::PoolStats;
use tmem_device::wire::PAGE_SIZE;

use crate::Times;
use crate::corpus::Corpus;

#[derive(Default)]
pub struct Figures {
    pub pool_put: Times,
    pub pool_get: Times,
    pub pool_put_2: Times,
    pub pool_get_2: Times,
    pub pool_put_raw: Times,
    pub pool_get_raw: Times,
    pub raw_compress: Times,
    pub raw_compress_2: Times,
    pub raw_decompress: Times,
    pub copy: Times,
    pub zram_read: Times,
    pub zram_write: Times,
    pub page_cache_read: Times,
    /// What zram keeps, and in how much memory.
    pub zram_used: Option<(u64, u64)>,
    pool: Option<(PoolStats, usize)>,
}

impl Figures {
    /// The pool's own figures, with all pages put.
    pub fn note_pool(&mut self, stats: PoolStats, pages: usize) {
        self.pool = Some((stats, pages));
    }

    pub fn print(&self, corpus: &Corpus, compressed: u64, json: bool) {
        let (stats, pages) = self.pool.expect("there was a round");
        let time = |times: &Times| times.median().map(f64::round);
        let ratio = |over: &Times, under: &Times| Some(over.median()? / under.median()?);
        let speedup = |one, two| ratio(one, two).map(|speedup| (speedup * 100.0).round() / 100.0);
        let put_speedup = speedup(&self.pool_put, &self.pool_put_2);
        let get_speedup = speedup(&self.pool_get, &self.pool_get_2);
        let metadata = stats.metadata_bytes as f64 / stats.stored_pages as f64;
        if json {
            let object = json!({
                "pages": pages,
                "corpus": corpus.origin,
                "corpus_hash": format!("{:016x}", corpus.hash),
                "compressed_bytes": compressed,
                "pool_get_ns": time(&self.pool_get),
                "pool_put_ns": time(&self.pool_put),
                "pool_get_raw_ns": time(&self.pool_get_raw),
                "pool_put_raw_ns": time(&self.pool_put_raw),
                "raw_compress_ns": time(&self.raw_compress),
                "raw_decompress_ns": time(&self.raw_decompress),
                "copy_ns": time(&self.copy),
                "zram_read_ns": time(&self.zram_read),
                "zram_write_ns": time(&self.zram_write),
                "pagecache_read_ns": time(&self.page_cache_read),
                "threads2_get_speedup": get_speedup,
                "threads2_put_speedup": put_speedup,
                "threads2_raw_compress_speedup": speedup(&self.raw_compress, &self.raw_compress_2),
                "metadata_bytes_per_page": (metadata * 10.0).round() / 10.0,
                "stored_bytes": stats.stored_bytes,
                "arena_bytes": stats.arena_bytes,
                "dead_bytes": stats.dead_bytes,
                "raw_pages": stats.raw_pages,
                "zram_compressed_bytes": self.zram_used.map(|(kept, _)| kept),
                "zram_mem_used_bytes": self.zram_used.map(|(_, memory)| memory),
            });
            println!("{object:#}");
            return;
        }
        let line = |name: &str, times: &Times| match time(times) {
            Some(ns) => println!("{name:<46}{ns:>9} ns"),
            None => println!("{name:<46}{:>12}", "-"),
        };
        line("pool: put, when it must compress", &self.pool_put);
        line("pool: get of compressed pages", &self.pool_get);
        line("pool: put, with room", &self.pool_put_raw);
        line("pool: get of raw pages", &self.pool_get_raw);
        line("LZ4: compress", &self.raw_compress);
        line("LZ4: decompress", &self.raw_decompress);
        line("copy", &self.copy);
        line("zram: write", &self.zram_write);
        line("zram: read", &self.zram_read);
        line("page cache: read", &self.page_cache_read);
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        println!(
            "\nof {:.1} MiB, {:.1} are kept ({} pages raw), in {:.1} MiB of memory; {:.1} are charged for pages that have gone",
            mib((pages * PAGE_SIZE) as u64),
            mib(stats.stored_bytes),
            stats.raw_pages,
            mib(stats.arena_bytes),
            mib(stats.dead_bytes),
        );
        println!(
            "metadata: {metadata:.1} bytes a page; LZ4 alone: {:.1} MiB",
            mib(compressed)
        );
        if let Some((kept, memory)) = self.zram_used {
            println!(
                "zram: {:.1} MiB are kept, in {:.1} MiB of memory",
                mib(kept),
                mib(memory)
            );
        }
        let bar = |what: &str, value: Option<f64>, bar: f64, at_most: bool| {
            let Some(value) = value else {
                return println!("{what:<66}    -");
            };
            let good = if at_most { value <= bar } else { value >= bar };
            let (sign, verdict) = (
                if at_most { "<=" } else { ">=" },
                if good { "yes" } else { "NO" },
            );
            println!("{what:<66}{value:>6.2} {sign} {bar:<5} {verdict}");
        };
        println!();
        bar(
            "gets for each read of zram",
            ratio(&self.zram_read, &self.pool_get),
            4.0,
            false,
        );
        let bare = || Some(self.raw_decompress.median()? + self.copy.median()?);
        let get = || Some(self.pool_get.median()? / bare()?);
        bar("a get, of decompression and a copy", get(), 1.25, true);
        bar(
            "a put, of compression",
            ratio(&self.pool_put, &self.raw_compress),
            1.25,
            true,
        );
        bar("two threads: gets", get_speedup, 1.7, false);
        bar("two threads: puts", put_speedup, 1.7, false);
        if let Some(speedup) = speedup(&self.raw_compress, &self.raw_compress_2) {
            println!(
                "{:<66}{speedup:>6.2}",
                "two threads: LZ4 alone compresses on this machine"
            );
        }
        bar("metadata, bytes a page", Some(metadata), 48.0, true);
        let packing = |kept: u64, memory: u64| memory as f64 / kept as f64;
        if let Some((kept, memory)) = self.zram_used {
            let (ours, theirs) = (
                packing(stats.stored_bytes, stats.arena_bytes),
                packing(kept, memory),
            );
            bar(
                "memory for each byte kept, of zram's",
                Some(ours / theirs),
                1.0,
                true,
            );
        }
    }
}
