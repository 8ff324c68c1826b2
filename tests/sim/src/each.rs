//! Many histories side by side, each by itself: the first that fails is named.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

/// Runs each item's history on as many threads as there are cores, and panics with the name of one that failed.
pub fn each<T: Sync>(items: &[T], name: impl Fn(&T) -> String + Sync, run: impl Fn(&T) + Sync) {
    let next = AtomicUsize::new(0);
    let failed: Mutex<Option<String>> = Mutex::new(None);
    let work = || {
        while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| run(item))) {
                next.store(items.len(), Ordering::Relaxed);
                let message = format!("{}: {}", name(item), said(&*panic));
                failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(message);
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    if let Some(message) = failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        panic!("{message}");
    }
}

fn said(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("it panicked")
}
