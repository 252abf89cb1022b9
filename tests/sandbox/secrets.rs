//! Secrets as a unit sees them, and trees that would have them somewhere else.

use berth::container::secrets::store::Store;
use berth::container::step::Op;
use berth::sys::guarded::Guarded;
use berth::unit::model::{At, Id, Propagation, SecretSource, SecretUse, Service, User, Writable};
use nix::mount::MsFlags;

use super::rig::{Rig, Test, bind, host_mount, on_tree, private_mounts, service, unit};

pub const TESTS: &[Test] = &[
    ("secrets_belong_to_the_unit", secrets_belong_to_the_unit),
    ("secrets_without_an_init", secrets_without_an_init),
    ("secrets_in_a_mount_namespace_alone", secrets_in_a_mount_namespace_alone),
    ("a_tree_whose_run_is_a_link", a_tree_whose_run_is_a_link),
    ("a_run_that_the_host_shares", a_run_that_the_host_shares),
    ("a_place_that_is_swapped_gets_no_secret", a_place_that_is_swapped_gets_no_secret),
    ("a_secret_that_is_not_there_is_named", a_secret_that_is_not_there_is_named),
];

/// What no test looks for by accident.
pub const VALUE: &str = "value of the secret";

/// A service with the secret `pw`, which is stored.
pub fn with_secret(rig: &Rig, service: &mut Service) {
    let state = rig.path("state");
    let value = Guarded::copy(VALUE.as_bytes()).unwrap();
    Store::new(state.as_ref()).set("pw", value).unwrap();
    service.secrets.uses = vec![At { value: used("pw"), line: 9 }];
}

pub fn used(name: &str) -> SecretUse {
    SecretUse {
        secret: name.to_owned(),
        target: name.to_owned(),
        uid: None,
        gid: None,
        mode: 0o400,
        source: SecretSource::Stored,
    }
}

fn web() -> Option<At<User>> {
    let user = Id::Name("web".to_owned());
    Some(At { value: User { user, group: None }, line: 4 })
}

const LOOK: &str = "cd /run/secrets && stat -c '%n %u:%g %a' . * && cat pw";

fn secrets_belong_to_the_unit() {
    let rig = Rig::new();
    let tree = rig.tree("rootfs");
    let shown = rig.shell(LOOK, |s| {
        on_tree(s, &tree, Writable::None);
        s.user = web();
        with_secret(&rig, s);
    });
    assert_eq!(shown.good(), format!(". 0:0 755\npw 1234:1235 400\n{VALUE}"));
    // The mount point was made in the overlay, and not in the tree.
    assert!(!std::path::Path::new(&tree).join("run").exists());
    // A unit without secrets has no such directory.
    let none = rig.shell("test -e /run/secrets; echo $?", |s| on_tree(s, &tree, Writable::None));
    assert_eq!(none.good(), "1\n");
}

fn secrets_without_an_init() {
    let rig = Rig::new();
    let shown = rig.shell("stat -c %u:%g:%a /run/secrets/pw; cat /run/secrets/pw", |s| {
        s.init = false;
        s.user = Some(At {
            value: User { user: Id::Number(1234), group: Some(Id::Number(7)) },
            line: 4,
        });
        with_secret(&rig, s);
    });
    assert_eq!(shown.good(), format!("1234:7:400\n{VALUE}"));
}

fn secrets_in_a_mount_namespace_alone() {
    let rig = Rig::new();
    let shown = rig.shell("cat /run/secrets/pw", |s| {
        s.namespaces.value =
            berth::unit::model::Namespaces { mount: true, ..berth::unit::model::Namespaces::NONE };
        with_secret(&rig, s);
    });
    assert_eq!(shown.good(), VALUE);
    assert!(!std::path::Path::new("/run/secrets").exists(), "the host has nothing of it");
}

/// A link would put the secrets over what it leads to, where others may be looking.
fn a_tree_whose_run_is_a_link() {
    let rig = Rig::new();
    for (name, link, to) in
        [("a", "run", "/srv"), ("b", "run/secrets", "/srv"), ("c", "run/secrets", "..")]
    {
        let tree = rig.tree(name);
        let link = format!("{tree}/{link}");
        std::fs::create_dir_all(std::path::Path::new(&link).parent().unwrap()).unwrap();
        let start = || {
            let mut unit = unit("web", &["cat", "/run/secrets/pw"]);
            on_tree(service(&mut unit), &tree, Writable::Ephemeral);
            with_secret(&rig, service(&mut unit));
            rig.up(&unit).map(|mut running| {
                let output = running.wait().output;
                running.down();
                output
            })
        };
        // The control: with nothing or a directory there it is fine.
        assert_eq!(start().unwrap(), VALUE);
        std::os::unix::fs::symlink(to, &link).unwrap();
        let error = start().unwrap_err();
        assert!(error.contains("mount its secrets on /run/secrets"), "{error}");
        assert!(error.contains("a symbolic link of the root tree"), "{error}");
    }
}

fn a_run_that_the_host_shares() {
    private_mounts();
    let rig = Rig::new();
    let shared = rig.path("files");
    host_mount(Some("tmpfs"), &shared, Some("tmpfs"), MsFlags::empty());
    host_mount(None, &shared, None, MsFlags::MS_SHARED);
    let start = |propagation| {
        let mut unit = unit("web", &["cat", "/run/secrets/pw"]);
        let mut run = bind(&shared, "/run");
        if let berth::unit::model::MountSource::Bind { propagation: it, .. } = &mut run.value.source
        {
            *it = propagation;
        }
        service(&mut unit).mounts.push(run);
        with_secret(&rig, service(&mut unit));
        rig.up(&unit).map(|mut running| {
            let output = running.wait().output;
            running.down();
            output
        })
    };
    for propagation in [Propagation::Private, Propagation::Slave] {
        assert_eq!(start(propagation).unwrap(), VALUE);
    }
    let error = start(Propagation::Shared).unwrap_err();
    assert!(error.contains("propagation = \"shared\""), "{error}");
    assert_eq!(std::fs::read_dir(format!("{shared}/secrets")).unwrap().count(), 0);
}

/// Another unit has the same volume as its `/run` and swaps the place for a link.
fn a_place_that_is_swapped_gets_no_secret() {
    let rig = Rig::new();
    let shared = rig.path("files");
    let place = format!("{shared}/secrets");
    std::fs::create_dir(&place).unwrap();
    std::fs::create_dir(format!("{shared}/trap")).unwrap();
    let swap = "chdir '/data' or die; $| = 1; symlink('trap', 'link') or die; print qq(on\n); \
        while (1) { rename('secrets', 'dir'); rename('link', 'secrets'); \
        rename('secrets', 'link'); rename('dir', 'secrets') }";
    let mut evil = unit("evil", &["perl", "-e", swap]);
    service(&mut evil).mounts.push(bind(&shared, "/data"));
    let mut evil = rig.up(&evil).unwrap();
    assert_eq!(evil.line(), "on");
    let (mut good, mut refused) = (0, 0);
    let begun = std::time::Instant::now();
    while good + refused < 60 || good == 0 || refused == 0 {
        let long = begun.elapsed() > std::time::Duration::from_secs(40);
        assert!(!long, "{good} started, {refused} were refused");
        let mut victim = unit(
            "web",
            &["sh", "-c", "grep -c ' /run/trap ' /proc/self/mountinfo; cat /run/secrets/pw"],
        );
        service(&mut victim).mounts.push(bind(&shared, "/run"));
        with_secret(&rig, service(&mut victim));
        match rig.up(&victim) {
            Ok(mut running) => {
                let output = running.wait().output;
                running.down();
                // What is mounted stays where it is while the name goes to and fro.
                assert!(output.starts_with("0\n"), "{output}");
                good += 1;
            }
            Err(error) => {
                assert!(error.contains("mount its secrets on /run/secrets"), "{error}");
                refused += 1;
            }
        }
    }
    evil.down();
}

fn a_secret_that_is_not_there_is_named() {
    let rig = Rig::new();
    let error = rig.failure(|s| s.secrets.uses = vec![At { value: used("pw"), line: 9 }]);
    let wanted = "give it the secret pw: it was never set: `berthctl secret set pw` at web.toml:9";
    assert_eq!(error, wanted);
    let variable = rig.failure(|s| {
        let source = SecretSource::Environment("RIG_UNSET".to_owned());
        s.secrets.uses = vec![At { value: SecretUse { source, ..used("pw") }, line: 9 }];
    });
    assert!(variable.contains("berth was started without the variable RIG_UNSET"), "{variable}");
    // A plan without secrets does not even make the memory for them.
    let plan = rig.plan(&unit("web", &["true"]));
    let of_secrets =
        |op: &Op| matches!(op, Op::SecretsMemory { .. } | Op::Secret { .. } | Op::Secrets { .. });
    assert!(!plan.sandbox.iter().any(|step| of_secrets(&step.op)));
}
