//! A thread that waits for another one, which the system has put aside for some other program, gives it its own core.
//!
//! The system takes a core away for milliseconds, several steps of a pass long. Whoever waits has a core and no use for it; the other has
//! work and no core. Schedulers even that out in their own time, which is too late.

pub use platform::{Member, leave_core};

#[cfg(all(target_os = "linux", not(any(loom, miri))))]
mod platform {
    use std::hint::spin_loop;

    /// A thread of a team, as others know it.
    #[derive(Clone, Copy)]
    pub struct Member {
        id: libc::pid_t,
        /// Of the time it has spent on a core.
        clock: libc::clockid_t,
    }

    impl Member {
        /// The calling thread; `None` where the system does not tell.
        pub fn current() -> Option<Member> {
            let mut clock = 0;
            // SAFETY: the thread is alive, as it calls, and `clock` may be written.
            let failed = unsafe { libc::pthread_getcpuclockid(libc::pthread_self(), &mut clock) };
            // SAFETY: takes nothing, returns a number.
            let id = unsafe { libc::syscall(libc::SYS_gettid) };
            (failed == 0).then_some(Member { id: id as libc::pid_t, clock })
        }

        /// Whether it is on no core now. (Some microseconds.)
        pub fn is_off(&self) -> bool {
            let before = self.time_on_a_core();
            (0..100).for_each(|_| spin_loop());
            before.is_some() && before == self.time_on_a_core()
        }

        fn time_on_a_core(&self) -> Option<impl PartialEq> {
            // SAFETY: integers, for which all zeros is a value.
            let mut time: libc::timespec = unsafe { std::mem::zeroed() };
            // SAFETY: `time` may be written; a clock that is no more makes the call fail.
            (unsafe { libc::clock_gettime(self.clock, &mut time) } == 0)
                .then_some((time.tv_sec, time.tv_nsec))
        }

        /// Moves it to the core of the calling thread, which should then leave or sleep. False where it may not run there: it was bound to
        /// other cores, and stays there.
        pub fn move_here(&self) -> bool {
            let (Some(here), Some(allowed)) = (core(), affinity(self.id)) else { return false };
            // SAFETY: `core` returns numbers below the number of bits.
            if !unsafe { libc::CPU_ISSET(here, &allowed) } {
                return false;
            }
            // SAFETY: a set of bits, for which all zeros is a value.
            let mut only_here: libc::cpu_set_t = unsafe { std::mem::zeroed() };
            // SAFETY: as above.
            unsafe { libc::CPU_SET(here, &mut only_here) };
            // A thread that waits for a core moves at once, and stays when it may go elsewhere again.
            bind(self.id, &only_here) && bind(self.id, &allowed)
        }
    }

    /// Moves the calling thread to some other core, if it may run on another.
    pub fn leave_core() {
        let (Some(here), Some(allowed)) = (core(), affinity(0)) else { return };
        let mut elsewhere = allowed;
        // SAFETY: `core` returns numbers below the number of bits.
        unsafe { libc::CPU_CLR(here, &mut elsewhere) };
        // The system refuses a set without a core.
        if bind(0, &elsewhere) {
            bind(0, &allowed);
        }
    }

    /// The core of the calling thread, if a set of cores has room for it.
    fn core() -> Option<usize> {
        // SAFETY: takes nothing, returns a number.
        let core = usize::try_from(unsafe { libc::sched_getcpu() }).ok()?;
        (core < libc::CPU_SETSIZE as usize).then_some(core)
    }

    fn affinity(thread: libc::pid_t) -> Option<libc::cpu_set_t> {
        // SAFETY: a set of bits, for which all zeros is a value.
        let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
        // SAFETY: `set` is as large as is said.
        (unsafe { libc::sched_getaffinity(thread, size_of_val(&set), &mut set) } == 0).then_some(set)
    }

    fn bind(thread: libc::pid_t, set: &libc::cpu_set_t) -> bool {
        // SAFETY: `set` is as large as is said.
        unsafe { libc::sched_setaffinity(thread, size_of_val(set), set) == 0 }
    }
}

/// Elsewhere, the system decides.
#[cfg(not(all(target_os = "linux", not(any(loom, miri)))))]
mod platform {
    #[derive(Clone, Copy)]
    pub enum Member {}

    impl Member {
        pub fn current() -> Option<Member> {
            None
        }

        pub fn is_off(&self) -> bool {
            match *self {}
        }

        pub fn move_here(&self) -> bool {
            match *self {}
        }
    }

    pub fn leave_core() {}
}

#[cfg(all(test, target_os = "linux", not(any(loom, miri))))]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn a_thread_that_sleeps_is_on_no_core_and_one_that_runs_is() {
        let (sender, receiver) = mpsc::channel();
        let (end, ended) = mpsc::channel::<()>();
        let sleeper = std::thread::spawn(move || {
            sender.send(Member::current().unwrap()).unwrap();
            let _ = ended.recv();
        });
        let sleeper_is = receiver.recv().unwrap();
        while !sleeper_is.is_off() {
            std::thread::yield_now();
        }
        assert!(!Member::current().unwrap().is_off());
        drop(end);
        sleeper.join().unwrap();
    }

    /// Where a thread may run is as before, whatever was done to it.
    #[test]
    fn a_thread_that_was_moved_may_go_where_it_might() {
        let cores = || std::fs::read_to_string("/proc/thread-self/status").unwrap();
        let allowed = |status: String| {
            status.lines().find(|line| line.starts_with("Cpus_allowed:")).unwrap().to_owned()
        };
        std::thread::spawn(move || {
            let before = allowed(cores());
            leave_core();
            assert_eq!(allowed(cores()), before);
            let me = Member::current().unwrap();
            assert!(std::thread::spawn(move || me.move_here()).join().unwrap());
            assert_eq!(allowed(cores()), before);
        })
        .join()
        .unwrap();
    }
}
