use super::*;
use std::fs;

#[test]
fn images_are_mapped_as_they_are_or_padded() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let image = directory.path().join("image");
    for (bytes, mapped) in [
        (0, MEMORY_DISK_UNIT),
        (5000, MEMORY_DISK_UNIT),
        (MEMORY_DISK_UNIT, MEMORY_DISK_UNIT),
        (MEMORY_DISK_UNIT + 1, 2 * MEMORY_DISK_UNIT),
    ] {
        fs::write(&image, vec![7; bytes as usize]).expect("write");
        let disk = image_disk(&image).expect("a disk");
        assert_eq!((disk.bytes, disk.readonly), (mapped, true));
        let mut file = File::from(disk.file);
        let mut content = vec![];
        file.seek(SeekFrom::Start(0)).expect("seek");
        file.read_to_end(&mut content).expect("read");
        assert_eq!(content.len() as u64, mapped);
        let (head, tail) = content.split_at(bytes as usize);
        assert!(head.iter().all(|&byte| byte == 7) && tail.iter().all(|&byte| byte == 0));
    }
    let missing = image_disk(Path::new("/nonexistent/image")).expect_err("no such file");
    assert!(missing.to_string().contains("/nonexistent/image"));
}
