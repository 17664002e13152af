use super::*;

/// A tree of modules: (path, what it depends on). Then what is built in.
fn tree(modules: &[(&str, &str)], builtin: &str) -> (tempfile::TempDir, Modules) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    for (name, depends) in modules {
        let path = directory.path().join("kernel").join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("create");
        let content = format!("\x7fELF junk\0license=GPL\0depends={depends}\0name=x\0more junk");
        fs::write(path, content).expect("write");
    }
    fs::write(directory.path().join("modules.builtin"), builtin).expect("write");
    fs::write(directory.path().join("modules.dep"), "").expect("write");
    let modules = Modules::open(directory.path()).expect("readable");
    (directory, modules)
}

fn order(modules: &Modules, wanted: &[&str]) -> Vec<String> {
    let files = modules.load_order(wanted).expect("all there");
    let name = |path: PathBuf| {
        path.file_name()
            .map(|name| name.to_string_lossy().into_owned())
    };
    files.into_iter().filter_map(name).collect()
}

#[test]
fn each_module_comes_after_those_it_depends_on() {
    let (_directory, modules) = tree(
        &[
            ("virt/kvm-amd.ko", "kvm"),
            ("virt/kvm.ko", "irqbypass"),
            ("virt/lib/irqbypass.ko", ""),
            ("drivers/virtio_pci.ko", "virtio,virtio_ring"),
            ("drivers/virtio.ko", "virtio_ring"),
            ("drivers/virtio_ring.ko", ""),
        ],
        "",
    );
    assert_eq!(
        order(&modules, &["virtio_pci", "kvm-amd", "virtio"]),
        [
            "virtio_ring.ko",
            "virtio.ko",
            "virtio_pci.ko",
            "irqbypass.ko",
            "kvm.ko",
            "kvm-amd.ko"
        ]
    );
    assert_eq!(
        order(&modules, &["kvm_amd"]).last().map(String::as_str),
        Some("kvm-amd.ko")
    );
}

#[test]
fn what_is_built_in_needs_no_file() {
    let (_directory, modules) = tree(
        &[("null_blk.ko", "configfs")],
        "kernel/fs/configfs/configfs.ko\nkernel/drivers/virtio-mmio.ko\n",
    );
    assert_eq!(
        order(&modules, &["virtio_mmio", "null_blk"]),
        ["null_blk.ko"]
    );
}

#[test]
fn a_module_that_is_nowhere_is_named() {
    let (_directory, modules) = tree(&[("a.ko", "gone")], "");
    let error = modules.load_order(&["a"]).expect_err("not there");
    assert!(error.to_string().contains("no module gone"), "{error}");
}

#[test]
fn circles_end() {
    let (_directory, modules) = tree(&[("a.ko", "b"), ("b.ko", "a")], "");
    assert_eq!(order(&modules, &["a"]), ["b.ko", "a.ko"]);
}

#[test]
fn modules_without_dependencies_or_without_the_field_are_fine() {
    assert_eq!(dependencies(b""), Vec::<String>::new());
    assert_eq!(dependencies(b"\0depends=\0"), Vec::<String>::new());
    assert_eq!(dependencies(b"\0depends=a"), ["a"]);
    assert_eq!(
        dependencies(b"\0nodepends=a\0depends=b,c-d\0"),
        ["b", "c-d"]
    );
}
