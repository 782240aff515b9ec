package respool

import (
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// machineMemory is the memory that this process may use: the machine's, or what the limits of the control
// groups that it is in leave of that; 0 if it is not known. It is read once.
var machineMemory = sync.OnceValue(func() int64 {
	var si syscall.Sysinfo_t
	if syscall.Sysinfo(&si) != nil {
		return 0
	}
	return memoryWithin(os.DirFS("/"), int64(uint64(si.Totalram)*uint64(si.Unit)))
})

// memoryWithin is the least of ram and the limits of the control groups of this process. A file that is not
// there or says nothing is no limit.
func memoryWithin(root fs.FS, ram int64) int64 {
	groups, err := fs.ReadFile(root, "proc/self/cgroup")
	if err != nil {
		return ram
	}
	for line := range strings.Lines(string(groups)) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3) // id, controllers, path
		if len(f) != 3 {
			continue
		}
		mount, file := "", ""
		switch {
		case f[0] == "0" && f[1] == "": // version 2
			mount, file = "sys/fs/cgroup", "memory.max"
		case holdsMemory(f[1]): // version 1
			mount, file = "sys/fs/cgroup/memory", "memory.limit_in_bytes"
		default:
			continue
		}
		for dir := path.Clean("/" + f[2]); ; dir = path.Dir(dir) {
			if n := readLimit(root, path.Join(mount, dir, file)); n > 0 {
				ram = min(ram, n)
			}
			if dir == "/" {
				break
			}
		}
	}
	return ram
}

func holdsMemory(controllers string) bool {
	for c := range strings.SplitSeq(controllers, ",") {
		if c == "memory" {
			return true
		}
	}
	return false
}

// readLimit is the number in a file, 0 if there is none: no limit is the word max in version 2, and a number beyond
// any memory in version 1.
func readLimit(root fs.FS, name string) int64 {
	b, err := fs.ReadFile(root, name)
	if err != nil {
		return 0
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
	if err != nil {
		return 0
	}
	return n
}
