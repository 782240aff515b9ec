package provision

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// checkSpace compares the bytes that are needed with those free in the file system of the cache.
func (s *setup) checkSpace(need int64) error {
	if s.host.anySpace {
		return nil
	}
	dir := s.cache.dir
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return fileError("check space", dir, err)
	}
	has := int64(st.Bavail) * st.Bsize
	if has >= need {
		return nil
	}
	return &Error{Op: "check space", Err: fmt.Errorf("%w: needs %s in %s, has %s: %w", ErrNoSpace, bytesText(need), dir, bytesText(has), syscall.ENOSPC),
		Remedy: remedySpace}
}

// lock takes the cache's lock, waiting for another process that has it; waiting is called once then. The lock goes
// with the process that holds it, however that ends.
func (c cache) lock(ctx context.Context, waiting func()) (unlock func(), err error) {
	path := filepath.Join(c.dir, "lock")
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, fileError("lock cache", path, err)
	}
	said := false
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			f.Close()
			return nil, fileError("lock cache", path, err)
		}
		if !said {
			waiting()
			said = true
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, &Error{Op: "lock cache", Name: path, Err: ctx.Err()}
		case <-time.After(100 * time.Millisecond):
		}
	}
}
