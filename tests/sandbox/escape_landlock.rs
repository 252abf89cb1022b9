//! What a process tries against the fence around the files it may change.
//!
//! Each attempt is made three times by root, in a plain process and in a container: with the
//! fence it must be denied, without that one step the same attempt must succeed, and where
//! it may write it must succeed as well. So nothing passes because it could not have worked.

use std::os::unix::fs::MetadataExt as _;

use berth::container::step::{Fence, Op};
use berth::unit::model::{At, Namespaces, Service};

use super::rig::{Rig, Test, bind, service, unit};

pub const TESTS: &[Test] = &[
    ("making_a_file_outside_is_denied", making_a_file),
    ("writing_a_file_outside_is_denied", writing_a_file),
    ("truncating_a_file_outside_is_denied", truncating_a_file),
    ("opening_to_truncate_outside_is_denied", opening_to_truncate),
    ("removing_a_file_outside_is_denied", removing_a_file),
    ("making_a_directory_outside_is_denied", making_a_directory),
    ("removing_a_directory_outside_is_denied", removing_a_directory),
    ("renaming_out_is_denied", renaming_out),
    ("renaming_in_is_denied", renaming_in),
    ("linking_in_is_denied", linking_in),
    ("a_symbolic_link_does_not_lead_out", through_a_symbolic_link),
    ("opening_again_by_descriptor_does_not_lead_out", through_a_descriptor),
    ("a_socket_outside_is_denied", making_a_socket),
    ("a_child_is_behind_the_fence_too", in_a_child),
    ("mounting_around_the_fence_is_denied", mounting),
    ("what_lies_beside_stays_writable", what_lies_beside_stays_writable),
    ("the_way_to_what_is_kept_stays_as_it_is", the_way_to_what_is_kept),
    ("both_fences_hold_at_once", both_fences_hold_at_once),
    ("devices_that_all_count_on_are_writable", devices_that_all_count_on),
    ("a_path_that_is_not_there_ends_the_start", a_path_that_is_not_there),
    ("every_process_of_a_unit_is_behind_it", every_process_of_a_unit),
];

fn at(path: &str) -> At<String> {
    At { value: path.to_owned(), line: 9 }
}

fn is_fence(op: &Op) -> bool {
    matches!(op, Op::Fence(_))
}

fn plain(service: &mut Service) {
    service.namespaces.value = Namespaces::NONE;
}

/// Directories `in` and `out`, each with a file, a directory and what attempts need.
fn files(rig: &Rig) {
    let _ = std::fs::remove_dir_all(rig.path("files"));
    for side in ["in", "out"] {
        rig.file(&format!("files/{side}/file"), "text");
        std::fs::create_dir(rig.path(&format!("files/{side}/directory"))).unwrap();
    }
}

/// Runs Perl code that ends with `verdict(…)`, in which `$out` is a directory that is not to
/// be written and `$in` one that is; the numbers of system calls are those of x86-64.
fn run(rig: &Rig, perl: &str, at: &str, change: impl FnOnce(&mut Service)) -> String {
    const BEGIN: &str = "use strict; use Socket; my ($in, $out) = @ARGV; \
        sub text { my $copy = shift; $copy } \
        sub verdict { my ($good) = @_; my $errno = $! + 0; \
        print $good ? 'done' : $errno == 1 || $errno == 13 || $errno == 18 ? 'denied' \
        : qq(error $errno: $!) } ";
    files(rig);
    let (inside, outside) = (format!("{at}/in"), format!("{at}/out"));
    let perl = format!("{BEGIN}{perl}");
    let mut unit = unit("web", &["perl", "-e", &perl, &inside, &outside]);
    change(service(&mut unit));
    rig.run(&unit).output
}

/// With the fence, without it, and where it does not stand, for both ways to ask for one.
fn attempt(perl: &str) {
    let rig = Rig::new();
    let files = rig.path("files");
    let (inside, outside) = (format!("{files}/in"), format!("{files}/out"));
    let only = |s: &mut Service| {
        plain(s);
        s.security.writable_paths = Some(vec![at(&inside)]);
    };
    let all_but = |s: &mut Service| {
        plain(s);
        s.security.read_only_paths = vec![at(&outside)];
    };
    let container = |s: &mut Service| {
        s.mounts.push(bind(&files, "/data"));
        s.security.writable_paths = Some(vec![at("/data/in")]);
    };
    for (kind, place, fence) in [
        ("only", files.as_str(), &only as &dyn Fn(&mut Service)),
        ("all but", &files, &all_but),
        ("container", "/data", &container),
    ] {
        assert_eq!(run(&rig, perl, place, fence), "denied", "{kind}: with the fence");
        rig.without.set(is_fence);
        let expected = if perl.contains("syscall(165") && kind == "container" {
            // Mounting takes a capability as well.
            "denied"
        } else {
            "done"
        };
        assert_eq!(run(&rig, perl, place, fence), expected, "{kind}: without it");
        rig.without.set(|_| false);
    }
}

fn making_a_file() {
    attempt("verdict(open(my $file, '>', qq($out/new)))");
}

fn writing_a_file() {
    attempt("verdict(open(my $file, '+<', qq($out/file)))");
}

fn truncating_a_file() {
    attempt("verdict(syscall(76, qq($out/file), 0) == 0)");
}

/// `O_RDONLY | O_TRUNC`, which needs no right to write.
fn opening_to_truncate() {
    attempt("verdict(syscall(2, qq($out/file), 512) >= 0)");
}

fn removing_a_file() {
    attempt("verdict(unlink(qq($out/file)))");
}

fn making_a_directory() {
    attempt("verdict(mkdir(qq($out/new)))");
}

fn removing_a_directory() {
    attempt("verdict(rmdir(qq($out/directory)))");
}

fn renaming_out() {
    attempt("verdict(rename(qq($in/file), qq($out/new)))");
}

fn renaming_in() {
    attempt("verdict(rename(qq($out/file), qq($in/new)))");
}

/// A link of the file in a place that may be written would be written there.
fn linking_in() {
    attempt("verdict(link(qq($out/file), qq($in/new)) && open(my $file, '+<', qq($in/new)))");
}

fn through_a_symbolic_link() {
    attempt(
        "symlink(qq($out/file), qq($in/link)) or die; verdict(open(my $file, '+<', qq($in/link)))",
    );
}

fn through_a_descriptor() {
    attempt(
        "open(my $file, '<', qq($out/file)) or die; my $number = fileno($file); \
         verdict(open(my $again, '+<', qq(/proc/self/fd/$number)))",
    );
}

fn making_a_socket() {
    attempt(
        "socket(my $s, AF_UNIX, SOCK_DGRAM, 0) or die; chdir($out) or die; \
         verdict(bind($s, pack_sockaddr_un('socket')))",
    );
}

fn in_a_child() {
    attempt(
        "my $ok = system('sh', '-c', qq(echo x 2>/dev/null >$out/new)); $! = 13; verdict($ok == 0)",
    );
}

/// `MS_BIND` of what may not be written over what may.
fn mounting() {
    attempt(
        "syscall(272, 0x20000) == 0 or do { verdict(0); exit }; \
         syscall(165, text('none'), text('/'), 0, 0x44000, 0) == 0 or do { verdict(0); exit }; \
         syscall(165, text($out), text(qq($in/directory)), 0, 4096, 0) == 0 or do { verdict(0); exit }; \
         verdict(open(my $file, '+<', qq($in/directory/file)))",
    );
}

/// Also across directories, which needs a right of its own.
fn what_lies_beside_stays_writable() {
    let rig = Rig::new();
    let files = rig.path("files");
    let perl = "open(my $file, '>', qq($in/new)) or die; truncate($file, 5) or die; \
        mkdir(qq($in/a)) && mkdir(qq($in/b)) && rename(qq($in/new), qq($in/a/new)) or die; \
        rename(qq($in/a/new), qq($in/b/new)) or die; link(qq($in/b/new), qq($in/a/link)) or die; \
        unlink(qq($in/a/link)) or die; verdict(rmdir(qq($in/a)))";
    let only = run(&rig, perl, &files, |s| {
        plain(s);
        s.security.writable_paths = Some(vec![at(&format!("{files}/in"))]);
    });
    assert_eq!(only, "done");
    let all_but = run(&rig, perl, &files, |s| {
        plain(s);
        s.security.read_only_paths = vec![at(&format!("{files}/out")), at("/etc/passwd")];
    });
    assert_eq!(all_but, "done");
    // From one directory that is not kept to another that has a rule of its own.
    let perl = "my $tmp = qq($in/../../state/moved); rename(qq($in/file), $tmp) or die qq(there: $!); \
        verdict(rename($tmp, qq($in/back)))";
    let across = run(&rig, perl, &files, |s| {
        plain(s);
        s.security.read_only_paths = vec![at(&format!("{files}/out"))];
    });
    assert_eq!(across, "done");
}

/// Neither can it be moved away, nor something put in its place.
fn the_way_to_what_is_kept() {
    let rig = Rig::new();
    let files = rig.path("files");
    let attempts = [
        "rename($out, qq($in/away))",
        "rename($in, qq($out/directory/in))",
        "rmdir(qq($out/directory))",
        "mkdir(qq($out/../beside))",
        "symlink('file', qq($out/link))",
    ];
    for perl in attempts {
        let perl = format!("verdict({perl})");
        let keep = |s: &mut Service| {
            plain(s);
            s.security.read_only_paths = vec![at(&format!("{files}/out/file"))];
        };
        assert_eq!(run(&rig, &perl, &files, keep), "denied", "{perl}");
        rig.without.set(is_fence);
        assert_eq!(run(&rig, &perl, &files, keep), "done", "{perl}");
        rig.without.set(|_| false);
    }
    // The way is followed through links, and what they lead to is kept.
    std::fs::create_dir_all(rig.path("links")).unwrap();
    std::os::unix::fs::symlink(&files, rig.path("links/way")).unwrap();
    let link = rig.path("links/way/out");
    let perl = "verdict(open(my $file, '>', qq($out/new)))";
    let keep = |s: &mut Service| {
        plain(s);
        s.security.read_only_paths = vec![at(&link)];
    };
    assert_eq!(run(&rig, perl, &files, keep), "denied");
    rig.without.set(is_fence);
    assert_eq!(run(&rig, perl, &files, keep), "done");
}

fn both_fences_hold_at_once() {
    let rig = Rig::new();
    let files = rig.path("files");
    let both = |s: &mut Service| {
        plain(s);
        s.security.writable_paths = Some(vec![at(&format!("{files}/in"))]);
        s.security.read_only_paths = vec![at(&format!("{files}/in/directory"))];
    };
    for (perl, expected) in [
        ("verdict(open(my $file, '+<', qq($in/file)))", "done"),
        ("verdict(mkdir(qq($in/directory/new)))", "denied"),
        ("verdict(mkdir(qq($out/new)))", "denied"),
    ] {
        assert_eq!(run(&rig, perl, &files, both), expected, "{perl}");
    }
    // The controls: each fence without the other, so that neither does what is the other's.
    let kept = "verdict(mkdir(qq($in/directory/new)))";
    let outside = "verdict(mkdir(qq($out/new)))";
    rig.without.set(|op| matches!(op, Op::Fence(Fence::Only(_))));
    assert_eq!(run(&rig, kept, &files, both), "denied");
    assert_eq!(run(&rig, outside, &files, both), "done");
    rig.without.set(|op| matches!(op, Op::Fence(Fence::AllBut(_))));
    assert_eq!(run(&rig, kept, &files, both), "done");
    assert_eq!(run(&rig, outside, &files, both), "denied");
}

fn devices_that_all_count_on() {
    let rig = Rig::new();
    let files = rig.path("files");
    let perl = "for my $name ('null', 'zero', 'full') { \
        open(my $device, '+<', qq(/dev/$name)) or die qq($name: $!) } \
        verdict(open(my $file, '>', qq($out/new)))";
    let nowhere = |s: &mut Service| s.security.writable_paths = Some(Vec::new());
    assert_eq!(
        run(&rig, perl, &files, |s| {
            plain(s);
            nowhere(s);
        }),
        "denied"
    );
    let bound = |s: &mut Service| {
        s.mounts.push(bind(&files, "/data"));
        nowhere(s);
    };
    assert_eq!(run(&rig, perl, "/data", bound), "denied");
    rig.without.set(is_fence);
    assert_eq!(run(&rig, perl, "/data", bound), "done");
}

fn a_path_that_is_not_there() {
    let rig = Rig::new();
    let text = rig.failure(|s| s.security.writable_paths = Some(vec![at("/etc"), at("/nothing")]));
    assert_eq!(
        text,
        "let it write only beneath /etc /nothing: No such file or directory (ENOENT): /nothing at \
         web.toml:9"
    );
    let text = rig.failure(|s| {
        plain(s);
        s.security.read_only_paths = vec![at("/nothing")];
    });
    assert!(text.starts_with("keep it from writing beneath /nothing: No such file"), "{text}");
}

fn every_process_of_a_unit() {
    let rig = Rig::new();
    files(&rig);
    let files = rig.path("files");
    let mut unit = unit("web", &["sleep", "1000"]);
    service(&mut unit).mounts.push(bind(&files, "/data"));
    service(&mut unit).security.writable_paths = Some(vec![at("/data/in")]);
    let script = "echo x 2>/dev/null >/data/in/new && echo in; echo x 2>/dev/null >/data/out/new || echo not out";
    let mut running = rig.up(&unit).unwrap();
    assert_eq!(running.shell(script).output, "in\nnot out\n");
    running.down();
    rig.without.set(is_fence);
    let mut running = rig.up(&unit).unwrap();
    assert_eq!(running.shell(script).output, "in\n");
    running.down();
    assert_eq!(std::fs::metadata(rig.path("files/out/new")).unwrap().size(), 2);
}
