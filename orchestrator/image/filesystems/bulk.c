/* Library preloaded into mke2fs (LD_PRELOAD) to make `mke2fs -d` about as fast as writing the data. Plain mke2fs allocates,
   looks up and writes each block of a file by itself, and its inode each time. This library allocates all blocks of a file at
   once, writes them in contiguous runs, caches looked-up names, and reads the tar stream in large pieces. It uses only
   libext2fs' own functions. Blocks of zeros stay holes as in plain mke2fs: a block map would skip them, so no file may claim
   them.

   BULK_OFFSET   offset of the file system in the image, in bytes (mke2fs -E offset) */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <ext2fs/ext2fs.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { RUN = 256, NAMES = 4096, PIECE = 1 << 20 };

/* State of the file that is being written: its current extent, and the run of blocks that is not yet written. */
static struct {
  ext2_file_t file;
  ext2_filsys fs;
  ext2_ino_t number;
  struct ext2_inode *inode;
  struct ext2fs_extent extent;
  blk64_t blocks, next; /* number of blocks in the file, and the next expected block */
  blk64_t start;
  unsigned waiting;
  char *bytes;
} at;

static errcode_t flush(void) {
  static int image = -1;
  size_t size = (size_t)at.waiting * at.fs->blocksize;
  const char *offset = getenv("BULK_OFFSET");
  if (image < 0 && (image = open(at.fs->device_name, O_WRONLY | O_CLOEXEC)) < 0) return errno;
  off_t place = (offset ? atoll(offset) : 0) + at.start * at.fs->blocksize;
  at.waiting = 0;
  for (size_t done = 0; done < size;) {
    ssize_t now = pwrite(image, at.bytes + done, size - done, place + done);
    if (now < 0) return errno;
    done += now;
  }
  return 0;
}

errcode_t ext2fs_file_open(ext2_filsys fs, ext2_ino_t number, int flags, ext2_file_t *file) {
  static errcode_t (*real)(ext2_filsys, ext2_ino_t, int, ext2_file_t *);
  if (!real) real = dlsym(RTLD_NEXT, "ext2fs_file_open");
  errcode_t problem = real(fs, number, flags, file);
  if (problem || !(flags & EXT2_FILE_WRITE)) return problem;
  struct ext2_inode *inode = ext2fs_file_get_inode(*file);
  blk64_t blocks = (EXT2_I_SIZE(inode) + fs->blocksize - 1) / fs->blocksize;
  if (!blocks || !(inode->i_flags & EXT4_EXTENTS_FL) || inode->i_blocks) return 0;
  problem = ext2fs_fallocate(fs, EXT2_FALLOCATE_FORCE_INIT, number, inode, ~0ULL, 0, blocks);
  /* If the extents do not fit into the inode, ext2fs_fallocate does not write the inode's block count. */
  if (!problem) problem = ext2fs_write_inode(fs, number, inode);
  if (!problem && !at.bytes) problem = ext2fs_get_array(RUN, fs->blocksize, &at.bytes);
  if (problem) return problem;
  fs->flags |= EXT2_FLAG_IGNORE_CSUM_ERRORS; /* checksums of blocks that this process has just written need no check */
  at.file = *file, at.fs = fs, at.number = number, at.inode = inode;
  at.blocks = blocks;
  at.next = at.extent.e_len = at.waiting = 0;
  return 0;
}

/* Frees the blocks between the last written one and `block`: they are zeros. The cache is flushed, because a freed block may be
   a dirty extent block there, and must not overwrite file data, which bypasses the cache. */
static errcode_t leave_out(blk64_t block) {
  if (block <= at.next) return 0;
  errcode_t problem = ext2fs_punch(at.fs, at.number, at.inode, NULL, at.next, block - 1);
  return problem ? problem : io_channel_flush(at.fs->io);
}

static int inside(blk64_t block) {
  return block >= at.extent.e_lblk && block < at.extent.e_lblk + at.extent.e_len;
}

static errcode_t find_extent(blk64_t block) {
  ext2_extent_handle_t handle;
  errcode_t problem = ext2fs_extent_open2(at.fs, at.number, at.inode, &handle);
  if (problem) return problem;
  problem = ext2fs_extent_goto(handle, block);
  if (!problem) problem = ext2fs_extent_get(handle, EXT2_EXTENT_CURRENT, &at.extent);
  ext2fs_extent_free(handle);
  return problem;
}

/* Replaces the lookup and write of each single block by runs of contiguous blocks. */
errcode_t ext2fs_file_write(ext2_file_t file, const void *bytes, unsigned size, unsigned *written) {
  static errcode_t (*real)(ext2_file_t, const void *, unsigned, unsigned *);
  __u64 offset;
  errcode_t problem;
  if (!real) real = dlsym(RTLD_NEXT, "ext2fs_file_write");
  if (file != at.file) return real(file, bytes, size, written);
  if ((problem = ext2fs_file_llseek(file, 0, EXT2_SEEK_CUR, &offset))) return problem;
  unsigned block_size = at.fs->blocksize;
  if (size > block_size || offset % block_size) return EXT2_ET_INVALID_ARGUMENT;
  blk64_t block = offset / block_size;
  if ((problem = leave_out(block))) return problem;
  at.next = block + 1;
  if (!inside(block) && (problem = find_extent(block))) return problem;
  blk64_t place = at.extent.e_pblk + (block - at.extent.e_lblk);
  int follows = at.waiting < RUN && place == at.start + at.waiting;
  if (at.waiting && !follows && (problem = flush())) return problem;
  if (!at.waiting) at.start = place;
  char *target = at.bytes + (size_t)at.waiting++ * block_size;
  memcpy(target, bytes, size);
  memset(target + size, 0, block_size - size);
  *written = size;
  return 0;
}

errcode_t ext2fs_file_close(ext2_file_t file) {
  static errcode_t (*real)(ext2_file_t);
  errcode_t problem = 0;
  if (!real) real = dlsym(RTLD_NEXT, "ext2fs_file_close");
  if (file == at.file) {
    problem = leave_out(at.blocks);
    if (!problem && at.waiting) problem = flush();
    at.file = NULL;
  }
  errcode_t closing = real(file);
  return problem ? problem : closing;
}

/* Caches looked-up names. Entries stay valid: `mke2fs -d` never removes a name, because a tree has no duplicates. */
errcode_t ext2fs_lookup(ext2_filsys fs, ext2_ino_t folder, const char *name, int length, char *buffer, ext2_ino_t *number) {
  static errcode_t (*real)(ext2_filsys, ext2_ino_t, const char *, int, char *, ext2_ino_t *);
  static struct { ext2_ino_t folder, number; int length; char name[EXT2_NAME_LEN]; } found[NAMES];
  if (!real) real = dlsym(RTLD_NEXT, "ext2fs_lookup");
  if (length > EXT2_NAME_LEN) return real(fs, folder, name, length, buffer, number);
  unsigned hash = 5381 + folder; /* Bernstein's hash of folder and name */
  for (int letter = 0; letter < length; letter++) hash = hash * 33 + (unsigned char)name[letter];
  hash %= NAMES;
  if (found[hash].number && found[hash].folder == folder && found[hash].length == length &&
      !memcmp(found[hash].name, name, length)) {
    *number = found[hash].number;
    return 0;
  }
  errcode_t problem = real(fs, folder, name, length, buffer, number);
  if (problem) return problem;
  memcpy(found[hash].name, name, length);
  found[hash].folder = folder, found[hash].number = *number, found[hash].length = length;
  return 0;
}

/* Replaces read(2): fetches stdin in pieces of 1 MiB, because libarchive asks for only 4 KiB at a time. */
ssize_t read(int file, void *target, size_t size) {
  static ssize_t (*real)(int, void *, size_t);
  static char piece[PIECE];
  static size_t begin, end;
  if (!real) real = dlsym(RTLD_NEXT, "read");
  if (file != STDIN_FILENO) return real(file, target, size);
  if (begin == end) {
    ssize_t got = real(file, piece, sizeof piece);
    if (got <= 0) return got;
    begin = 0, end = got;
  }
  if (size > end - begin) size = end - begin;
  memcpy(target, piece + begin, size);
  begin += size;
  return size;
}
