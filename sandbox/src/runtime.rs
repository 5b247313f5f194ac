//! The runtime of the servers that live inside this process. Each `#[tokio::test]` ends its own runtime;
//! a server that all tests of a process share must not end with the first of them.

use std::sync::LazyLock;

use tokio::runtime::{Builder, Handle, Runtime};

static SERVERS: LazyLock<Runtime> = LazyLock::new(|| {
    Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("sandbox-server")
        .enable_all()
        .build()
        .expect("a runtime can be started")
});

/// Where in-process servers run.
pub(crate) fn servers() -> &'static Handle {
    SERVERS.handle()
}
