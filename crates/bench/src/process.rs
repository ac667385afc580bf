//! What the system says about this process and its machine. Only Linux says it in files; on
//! other systems these answer nothing.

use std::fs;

/// The most memory this process has had at once, in bytes, since it began or since
/// [`reset_peak_rss`].
pub fn peak_rss_bytes() -> Option<u64> {
    kibibytes(&fs::read_to_string("/proc/self/status").ok()?, "VmHWM:")
}

/// Begins anew with the memory of this moment, so that a process can measure one thing after
/// another. Where the system does not allow it, the peak stays what it was.
pub fn reset_peak_rss() {
    // A system that refuses reports a peak of everything before, which is an upper bound.
    let _ = fs::write("/proc/self/clear_refs", "5");
}

/// What the processor calls itself.
pub fn cpu_name() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("model name"))?;
    Some(line.trim_start_matches([' ', '\t', ':']).trim().to_owned())
}

fn kibibytes(text: &str, field: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(field))?;
    let number: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    number.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_status() {
        let text = "Name:\torion\nVmPeak:\t  900 kB\nVmHWM:\t    5678 kB\nVmRSS:\t 12 kB\n";
        assert_eq!(kibibytes(text, "VmHWM:"), Some(5678 * 1024));
        assert_eq!(kibibytes(text, "VmSwap:"), None);
        assert_eq!(kibibytes("VmHWM:\t99999999999999999 kB", "VmHWM:"), None);
        assert_eq!(kibibytes("VmHWM:\tmuch", "VmHWM:"), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_peak_sees_what_was_given_back() {
        reset_peak_rss();
        let block = std::hint::black_box(vec![1u8; 64 << 20]);
        drop(block);
        // The system counts pages of each thread in batches.
        let with_block = peak_rss_bytes().unwrap();
        assert!(with_block > 60 << 20, "{with_block}");
        reset_peak_rss();
        let without = peak_rss_bytes().unwrap();
        assert!(without < 60 << 20, "{without}");
    }
}
