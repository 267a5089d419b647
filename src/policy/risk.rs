//! Which commands may destroy much of a box, so that a checkpoint before them is worth its price. A guess by words: a
//! miss costs no more than a checkpoint that was not taken, a false alarm no more than one that was.

use super::words::simple_commands;

/// Whether a command may destroy, at one stroke, more than it names.
pub fn is_risky(command: &str) -> bool {
    if destroys_tables(command) {
        return true;
    }
    simple_commands(command).iter().any(|simple| step_is_risky(&simple.words))
}

/// SQL that takes tables away, in whatever program.
fn destroys_tables(command: &str) -> bool {
    let upper = command.to_ascii_uppercase();
    let has = |verb: &str, nouns: &[&str]| {
        upper.match_indices(verb).any(|(at, _)| {
            let before = upper[..at].chars().next_back();
            let rest = upper[at + verb.len()..].trim_start();
            before.is_none_or(|c| !c.is_ascii_alphanumeric() && c != '_')
                && nouns.iter().any(|noun| rest.starts_with(noun))
        })
    };
    has("DROP ", &["TABLE", "DATABASE", "SCHEMA", "COLLECTION", "INDEX"]) || has("TRUNCATE ", &["TABLE"])
}

fn step_is_risky(words: &[String]) -> bool {
    let words: Vec<&str> = words.iter().map(String::as_str).skip_while(|word| is_prefix(word)).collect();
    let Some((program, args)) = words.split_first() else { return false };
    let program = program.rsplit('/').next().unwrap_or_default();
    let flag = |short: char, long: &str| {
        args.iter()
            .any(|arg| *arg == long || (arg.starts_with('-') && !arg.starts_with("--") && arg[1..].contains(short)))
    };
    let word = |wanted: &str| args.contains(&wanted);
    let operands = || args.iter().filter(|arg| !arg.starts_with('-'));
    match program {
        "rm" => flag('r', "--recursive") || flag('R', "--recursive") || operands().any(|path| path.contains('*')),
        "find" => word("-delete") || (word("-exec") && word("rm")),
        "git" => match operands().next() {
            Some(&"reset") => word("--hard"),
            Some(&"clean" | &"filter-branch") => true,
            Some(&"checkout" | &"restore") => word(".") || word("--force") || flag('f', "--force"),
            Some(&"stash") => word("drop") || word("clear"),
            Some(&"branch") => flag('D', "--delete-force"),
            _ => false,
        },
        "apt" | "apt-get" | "aptitude" | "dpkg" | "yum" | "dnf" | "zypper" | "pacman" | "apk" => {
            let removes = ["remove", "purge", "autoremove", "dist-upgrade", "full-upgrade", "upgrade", "erase", "del"];
            args.iter().any(|arg| removes.contains(arg))
                || (program == "dpkg" && (flag('r', "--remove") || flag('P', "--purge")))
        }
        "dd" => args.iter().any(|arg| arg.starts_with("of=") && !arg.starts_with("of=/dev/null")),
        "shred" | "wipefs" | "fdisk" | "sfdisk" | "parted" | "mkswap" | "userdel" | "groupdel" => true,
        "chmod" | "chown" | "chgrp" => flag('R', "--recursive"),
        "mv" | "rsync" | "ln" | "cp" => {
            let is_top = |path: &&&str| is_top_directory(path);
            (program == "mv" && operands().any(|path| is_top(&path)))
                || (program == "rsync" && args.iter().any(|arg| arg.starts_with("--delete")))
                || operands().next_back().is_some_and(|path| is_top(&path) && *path != "/tmp")
        }
        "pip" | "pip3" => {
            word("uninstall") || (word("install") && args.iter().any(|arg| arg.starts_with("--break-system")))
        }
        "npm" | "yarn" | "pnpm" => flag('g', "--global") || word("prune"),
        "kill" | "killall" | "pkill" => false,
        "truncate" => operands().any(|path| path.contains('*')),
        "sh" | "bash" | "dash" | "ash" => {
            let script = args.iter().skip_while(|arg| !(arg.starts_with('-') && arg.ends_with('c'))).nth(1);
            script.is_some_and(|script| is_risky(script))
        }
        "xargs" => {
            let is_own = |word: &&&str| word.starts_with('-') || word.bytes().all(|byte| byte.is_ascii_digit());
            step_is_risky(&args.iter().skip_while(is_own).map(|word| (*word).to_owned()).collect::<Vec<_>>())
        }
        name => name.starts_with("mkfs"),
    }
}

/// What may stand before the program: assignments, and programs that run others.
fn is_prefix(word: &str) -> bool {
    const OTHERS: [&str; 17] = [
        "sudo", "env", "nohup", "time", "nice", "ionice", "exec", "command", "builtin", "then", "do", "else", "if",
        "while", "!", "stdbuf", "setsid",
    ];
    let name = word.split('=').next().unwrap_or_default();
    let assigns =
        word.contains('=') && !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    OTHERS.contains(&word) || assigns
}

/// `/`, `/usr`, `~`: what holds more than anybody means.
fn is_top_directory(path: &str) -> bool {
    let path = if path.len() > 1 { path.trim_end_matches('/') } else { path };
    matches!(path, "~" | "." | "..") || (path.starts_with('/') && path.matches('/').count() == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_destroys_much_is_told_from_what_does_not() {
        for risky in [
            "rm -rf build",
            "rm -fr /usr",
            "cd x && rm -r y",
            "sudo rm -Rf ~/x",
            "rm *.o",
            "A=1 rm --recursive d",
            "git reset --hard HEAD~3",
            "git clean -fdx",
            "git checkout -- .",
            "apt-get remove -y python3",
            "apt-get dist-upgrade",
            "mkfs.ext4 /dev/sda1",
            "dd if=/dev/zero of=disk.img bs=1M",
            "chmod -R 777 /",
            "chown -R me .",
            "psql -c 'drop table users'",
            "echo \"TRUNCATE TABLE x\" | mysql",
            "mv /usr /usr.old",
            "npm install -g x",
            "pip uninstall -y numpy",
            "find . -name '*.pyc' -delete",
            "bash -c 'rm -rf x'",
            "ls | xargs rm -rf",
            "if true; then rm -rf x; fi",
            "rsync -a --delete a/ b/",
            "/bin/rm -r x",
        ] {
            assert!(is_risky(risky), "{risky}");
        }
        for tame in [
            "",
            "rm file",
            "ls -R",
            "git status",
            "git reset HEAD x",
            "echo 'rm -rf x'",
            "grep -r rm .",
            "apt-get install -y jq",
            "dd if=a of=/dev/null",
            "chmod +x run.sh",
            "mv a b",
            "cp a /tmp",
            "pip install numpy",
            "npm install",
            "SELECT dropped FROM t",
            "make clean",
            "kill -9 1",
            "echo rm -r",
            "tar xf a.tar",
            "cp -r src /srv/app/",
        ] {
            assert!(!is_risky(tame), "{tame}");
        }
    }

    #[test]
    fn odd_text_is_no_trouble() {
        for odd in ["'", "\"", "\\", "`", "$(", ";;;|||", "-", "=", "bash -c", "xargs", "\u{0}", "é\\"] {
            is_risky(odd);
        }
    }
}
