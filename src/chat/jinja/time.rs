//! Python's `strftime` in the C locale.

use jiff::Zoned;

/// Formats a time. Codes that neither Python nor the C library knows stay as they are.
pub(super) fn strftime(format: &str, time: &Zoned) -> String {
    let mut out = String::new();
    let mut chars = format.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        // glibc's flags: `%-d` is `%d` without the zero in front.
        let flag = chars.next_if(|c| matches!(c, '-' | '_' | '0' | '^'));
        let code = chars.next();
        let mut directive = String::from("%");
        directive.extend(flag);
        directive.extend(code);
        let formatted = match code {
            Some('x') => Some(time.strftime("%m/%d/%y").to_string()),
            Some('X') => Some(time.strftime("%H:%M:%S").to_string()),
            Some('c') => Some(time.strftime("%a %b %e %H:%M:%S %Y").to_string()),
            // Microseconds are Python's own.
            Some('f') => Some(format!("{:06}", time.subsec_nanosecond() / 1000)),
            // The time is without a zone there, as `datetime.now()` gives it.
            Some('z' | 'Z') => Some(String::new()),
            Some(code) if "YymdeHIMSjBbhAapFTDRPUWuwGVgCnt%klrs".contains(code) => {
                jiff::fmt::strtime::format(&directive, time).ok()
            }
            _ => None,
        };
        out.push_str(&formatted.unwrap_or(directive));
    }
    out
}
