//! How urgent a thread is.

use std::io;

/// How urgent an engine's threads are beside other programs.
///
/// On Linux and Android this is the thread's nice value: 5, 0, −5, −10 or −20. On Apple's systems it is the quality of service: utility,
/// user-initiated (the default, which keeps threads on performance cores), and user-interactive for all above. On Windows it is the
/// thread's priority: below normal, normal, above normal, highest or time critical. Elsewhere there is only [`Priority::Normal`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// Others come first.
    Low,
    /// As any program.
    #[default]
    Normal,
    /// A little more than others. Like all that follow, it may need a privilege (`CAP_SYS_NICE` on Linux).
    Medium,
    /// More than others.
    High,
    /// As much as the system lets a thread have that shares its core.
    Realtime,
}

impl Priority {
    /// llama.cpp's number for it: −1 to 3.
    pub fn from_level(level: i32) -> Option<Priority> {
        use Priority::*;
        let index = usize::try_from(level.checked_add(1)?).ok()?;
        [Low, Normal, Medium, High, Realtime].get(index).copied()
    }

    /// What [`Priority::from_level`] reads.
    pub fn level(self) -> i32 {
        self as i32 - 1
    }

    /// Gives the calling thread this priority.
    ///
    /// # Errors
    /// Where the thread may not have it, or the system has no priorities.
    pub(super) fn apply(self) -> io::Result<()> {
        apply(self)
    }
}

/// What the calling thread had, to be given back.
pub(super) struct Before(#[cfg(any(target_os = "linux", target_os = "android"))] i32);

#[cfg(any(target_os = "linux", target_os = "android"))]
mod platform {
    use super::*;

    pub fn apply(priority: Priority) -> io::Result<()> {
        match priority {
            Priority::Low => set_nice(5),
            // Whatever the program was started with.
            Priority::Normal => Ok(()),
            Priority::Medium => set_nice(-5),
            Priority::High => set_nice(-10),
            Priority::Realtime => set_nice(-20),
        }
    }

    fn set_nice(nice: i32) -> io::Result<()> {
        // SAFETY: no memory is passed. The "process" 0 is the calling thread on this system.
        match unsafe { libc::setpriority(libc::PRIO_PROCESS as _, 0, nice) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    impl Before {
        pub fn get() -> Before {
            // SAFETY: no memory is passed.
            Before(unsafe { libc::getpriority(libc::PRIO_PROCESS as _, 0) })
        }

        /// Where it may not be had back (a low priority, without the right to raise it), the thread stays as it is.
        pub fn restore(&self) {
            let _ = set_nice(self.0);
        }
    }
}

#[cfg(target_vendor = "apple")]
mod platform {
    use super::*;

    pub fn apply(priority: Priority) -> io::Result<()> {
        let class = match priority {
            Priority::Low => libc::qos_class_t::QOS_CLASS_UTILITY,
            Priority::Normal => libc::qos_class_t::QOS_CLASS_USER_INITIATED,
            _ => libc::qos_class_t::QOS_CLASS_USER_INTERACTIVE,
        };
        // SAFETY: no memory is passed, and the calling thread is one of the program's own.
        match unsafe { libc::pthread_set_qos_class_self_np(class, 0) } {
            0 => Ok(()),
            code => Err(io::Error::from_raw_os_error(code)),
        }
    }

    impl Before {
        pub fn get() -> Before {
            Before()
        }

        /// A thread keeps its class: there is none to go back to if it had none.
        pub fn restore(&self) {}
    }
}

#[cfg(windows)]
mod platform {
    use windows_sys::Win32::System::Threading as win;

    use super::*;

    pub fn apply(priority: Priority) -> io::Result<()> {
        let level = match priority {
            Priority::Low => win::THREAD_PRIORITY_BELOW_NORMAL,
            Priority::Normal => return Ok(()),
            Priority::Medium => win::THREAD_PRIORITY_ABOVE_NORMAL,
            Priority::High => win::THREAD_PRIORITY_HIGHEST,
            Priority::Realtime => win::THREAD_PRIORITY_TIME_CRITICAL,
        };
        set(level)
    }

    fn set(level: i32) -> io::Result<()> {
        // SAFETY: the handle is the constant that stands for the calling thread.
        match unsafe { win::SetThreadPriority(win::GetCurrentThread(), level) } {
            0 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        }
    }

    impl Before {
        pub fn get() -> Before {
            Before()
        }

        pub fn restore(&self) {
            let _ = set(win::THREAD_PRIORITY_NORMAL);
        }
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple", windows)))]
mod platform {
    use super::*;

    pub fn apply(priority: Priority) -> io::Result<()> {
        if priority == Priority::Normal { Ok(()) } else { Err(io::ErrorKind::Unsupported.into()) }
    }

    impl Before {
        pub fn get() -> Before {
            Before()
        }

        pub fn restore(&self) {}
    }
}

use platform::apply;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_those_of_llama_cpp() {
        for level in -1..=3 {
            assert_eq!(Priority::from_level(level).unwrap().level(), level);
        }
        assert_eq!(Priority::from_level(0), Some(Priority::Normal));
        for level in [i32::MIN, -2, 4, i32::MAX] {
            assert_eq!(Priority::from_level(level), None);
        }
    }
}
