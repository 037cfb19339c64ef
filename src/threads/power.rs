//! Whether the machine runs on battery.

/// Whether the machine runs on battery; `false` where the system does not tell.
pub fn on_battery() -> bool {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    return supplies(std::path::Path::new("/sys/class/power_supply"));
    #[cfg(windows)]
    {
        use windows_sys::Win32::System::Power::{GetSystemPowerStatus, SYSTEM_POWER_STATUS};
        // SAFETY: integers, for which all zeros is a value.
        let mut status: SYSTEM_POWER_STATUS = unsafe { std::mem::zeroed() };
        // SAFETY: `status` may be written.
        return unsafe { GetSystemPowerStatus(&mut status) } != 0 && status.ACLineStatus == 0;
    }
    #[cfg(not(any(target_os = "linux", target_os = "android", windows)))]
    false
}

/// What a folder like `/sys/class/power_supply` says: a battery is being discharged, and nothing else supplies power.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn supplies(folder: &std::path::Path) -> bool {
    let Ok(supplies) = std::fs::read_dir(folder) else { return false };
    let mut discharging = false;
    for supply in supplies.flatten() {
        let read = |file: &str| std::fs::read_to_string(supply.path().join(file)).unwrap_or_default();
        match read("type").trim() {
            // That of a mouse or a headset is not the machine's.
            "Battery" if read("scope").trim() != "Device" => {
                discharging |= read("status").trim() == "Discharging"
            }
            "Mains" | "USB" | "Wireless" if read("online").trim() == "1" => return false,
            _ => {}
        }
    }
    discharging
}

#[cfg(all(test, any(target_os = "linux", target_os = "android")))]
mod tests {
    use std::fs;

    use super::*;

    fn on_battery(all: &[(&str, &[(&str, &str)])]) -> bool {
        let folder = tempfile::tempdir().unwrap();
        for (supply, files) in all {
            fs::create_dir(folder.path().join(supply)).unwrap();
            for (file, content) in *files {
                fs::write(folder.path().join(supply).join(file), format!("{content}\n")).unwrap();
            }
        }
        supplies(folder.path())
    }

    #[test]
    fn a_laptop_is_on_battery_when_unplugged() {
        let battery = |status| ("BAT0", [("type", "Battery"), ("status", status), ("scope", "System")]);
        let mains = |online| ("AC", [("type", "Mains"), ("online", online)]);
        for (status, online, want) in [
            ("Discharging", "0", true),
            ("Charging", "1", false),
            ("Full", "1", false),
            ("Not charging", "1", false),
            // Under load, a weak charger does not keep up.
            ("Discharging", "1", false),
            ("Unknown", "0", false),
        ] {
            let (battery, mains) = (battery(status), mains(online));
            assert_eq!(
                on_battery(&[(battery.0, &battery.1), (mains.0, &mains.1)]),
                want,
                "{status} {online}"
            );
            assert_eq!(
                on_battery(&[(mains.0, &mains.1), (battery.0, &battery.1)]),
                want,
                "{status} {online}"
            );
        }
    }

    #[test]
    fn chargers_come_in_many_kinds() {
        let battery: &[_] = &[("type", "Battery"), ("status", "Discharging")];
        assert!(on_battery(&[("battery", battery)]), "a phone without a charger of its own");
        for kind in ["USB", "Wireless", "Mains"] {
            assert!(!on_battery(&[("battery", battery), ("charger", &[("type", kind), ("online", "1")])]));
            assert!(on_battery(&[("battery", battery), ("charger", &[("type", kind), ("online", "0")])]));
        }
    }

    #[test]
    fn the_battery_of_a_mouse_is_not_the_machine_s() {
        let mouse: &[_] = &[("type", "Battery"), ("status", "Discharging"), ("scope", "Device")];
        assert!(!on_battery(&[("hidpp_battery_0", mouse)]));
        assert!(!on_battery(&[]));
        assert!(!supplies(std::path::Path::new("/nowhere")));
    }
}
