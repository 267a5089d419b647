//! Logs as common programs print them, none of which is a reason to wake anybody.

use super::*;
use crate::terminal::lines::LineReader;

/// What is found in a log that is printed line by line, one a second, and again and again for ten minutes.
fn found(log: &str) -> Vec<Finding> {
    let mut monitor = Monitor::new(Duration::ZERO, false);
    let mut reader = LineReader::new();
    let mut findings = Vec::new();
    let lines: Vec<&str> = log.lines().collect();
    for second in 0..600u64 {
        let at = usize::try_from(second).unwrap_or(0) % lines.len();
        let raw = format!("{}\r\n", lines[at]);
        findings.extend(monitor.printed(Duration::from_secs(second), &reader.feed(raw.as_bytes())));
    }
    findings
}

const PIP: &str = "Collecting torch==2.5.1
  Downloading torch-2.5.1-cp312-cp312-manylinux1_x86_64.whl (906.4 MB)
     ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━ 906.4/906.4 MB 3.1 MB/s eta 0:00:00
Requirement already satisfied: filelock in /usr/lib/python3/dist-packages (from torch==2.5.1) (3.9.0)
Installing collected packages: mpmath, sympy, networkx, exceptiongroup, retrying, torch
  Attempting uninstall: sympy
WARNING: Running pip as the 'root' user can result in broken permissions
Successfully installed exceptiongroup-1.2.0 torch-2.5.1";

const APT: &str = "Get:1 http://deb.debian.org/debian bookworm/main amd64 liberror-perl all 0.17029-2 [29.0 kB]
Fetched 12.3 MB in 2s (6,012 kB/s)
Selecting previously unselected package libgpg-error0:amd64.
(Reading database ... 45%
(Reading database ... 12345 files and directories currently installed.)
Preparing to unpack .../git_1%3a2.39.5_amd64.deb ...
W: Download is performed unsandboxed as root as file couldn't be accessed by user '_apt'. (13: Permission granted)
Setting up libgpg-error0:amd64 (1.46-1) ...
update-alternatives: warning: skip creation of /usr/share/man/man1/x.1.gz because associated file doesn't exist
Processing triggers for libc-bin (2.36-9) ...";

const CARGO: &str = "   Compiling thiserror v2.0.21
   Compiling error-chain v0.12.4
    Building [=======================> ] 337/342: longhaul
warning: unused variable: `error`
  --> src/error.rs:12:9
test errors::a_failed_run_exits_with_3 ... ok
test error_handling::panics_are_caught - should panic ... ok
test result: ok. 120 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 4.02s";

const PYTORCH: &str = "Epoch 1/10 | train loss 2.3015 | val loss 2.2891 | err 0.88 | lr 1.0e-3
Epoch 2/10 | train loss 1.8412 | val loss 1.7020 | err 0.61 | lr 1.0e-3
grad_norm: inf, skipping step (loss scale 65536.0)
{'loss': 0.6931, 'grad_norm': 1.23, 'learning_rate': 4.9e-05, 'epoch': 0.02}
Validation error: 0.1432, best error: 0.1401
UserWarning: Detected call of `lr_scheduler.step()` before `optimizer.step()`.
nan values in column 'age': 0
early stopping: best loss inf -> 0.6931";

const TQDM: &str = "  0%|          | 0/1000 [00:00<?, ?it/s]
 10%|█         | 100/1000 [00:10<01:30, 10.00it/s, loss=2.31]
Downloading shards: 100%|██████████| 4/4 [01:02<00:00, 15.55s/it]
Map: 100%|██████████| 25000/25000 [00:06<00:00, 3845.01 examples/s]";

const KERAS: &str = "Epoch 1/5
1875/1875 ━━━━━━━━━━━━━━━━━━━━ 3s 2ms/step - accuracy: 0.8612 - loss: 0.4844 - val_loss: 0.1421
Epoch 1: val_loss improved from inf to 0.14210, saving model to best.keras
Epoch 2: val_loss did not improve from 0.14210
Could not load dynamic library 'libcudart.so.11.0'; dlerror: libcudart.so.11.0: cannot open shared object file: No such file or directory
Ignore above cudart dlerror if you do not have a GPU set up on your machine.";

const MAKE: &str = "[ 12%] Building C object CMakeFiles/x.dir/error.c.o
gcc -Wall -Werror -Werror=format -c -o strerror.o strerror.c
cc1: note: unrecognized command-line option '-Wno-error=x' may have been intended to silence earlier diagnostics
checking for error_at_line... yes
ar: creating liberror.a
make[2]: [Makefile:12: clean] Error 1 (ignored)
make[1]: Leaving directory '/src/error'
PASS: tests/error-paths.sh";

const DBT: &str = "10:01:02  Running with dbt=1.8.7
10:01:05  Concurrency: 4 threads (target='prod')
10:01:06  1 of 12 START sql view model analytics.stg_errors ........................ [RUN]
10:01:08  1 of 12 OK created sql view model analytics.stg_errors ................... [CREATE VIEW in 1.90s]
10:02:08  Completed successfully
10:02:08  Done. PASS=12 WARN=0 ERROR=0 SKIP=0 TOTAL=12";

const OTHERS: &str = "127.0.0.1 - - [22/Nov/2026 10:00:00] \"GET /error HTTP/1.1\" 200 -
INFO 10:00:00 engine.py:12] Avg prompt throughput: 0.0 tokens/s, Running: 0 reqs, errors: 0
added 312 packages, and audited 313 packages in 4s, found 0 vulnerabilities
rsync error-free: 1,234 files, 0 errors
PLAY RECAP **** host1 : ok=12 changed=3 unreachable=0 failed=0
tests/test_api.py::test_connection_error PASSED                        [ 45%]
level=info msg=\"retry policy\" on_error=retry
mse 0.01 nan_count 0 inf_count 0";

#[test]
fn the_logs_of_common_programs_are_no_reason_to_wake_anybody() {
    let logs = [PIP, APT, CARGO, PYTORCH, TQDM, KERAS, MAKE, DBT, OTHERS];
    for log in logs {
        for line in log.lines() {
            assert_eq!(found(line), [], "{line}");
        }
        assert_eq!(found(log), []);
    }
}

#[test]
fn a_question_is_told_once_until_something_else_is_printed() {
    let mut monitor = Monitor::new(Duration::ZERO, false);
    let asks = |monitor: &mut Monitor| monitor.asks(InputKind::YesNo, "Continue? [Y/n]".to_owned());
    assert!(asks(&mut monitor).is_some());
    assert_eq!(asks(&mut monitor), None);
    monitor.printed(Duration::from_secs(1), &[]);
    assert!(asks(&mut monitor).is_some());
}
