package respool

import (
	"testing"
	"testing/fstest"
)

func TestMemoryWithin(t *testing.T) {
	const ram = 1 << 34
	for name, c := range map[string]struct {
		files map[string]string
		want  int64
	}{
		"no proc":             {nil, ram},
		"no group":            {map[string]string{"proc/self/cgroup": "0::/\n"}, ram},
		"version 2":           {map[string]string{"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/memory.max": "1000\n"}, 1000},
		"no limit":            {map[string]string{"proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/memory.max": "max\n"}, ram},
		"limit above":         {map[string]string{"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/memory.max": "max\n", "sys/fs/cgroup/a/memory.max": "2000\n"}, 2000},
		"the least":           {map[string]string{"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/memory.max": "3000\n", "sys/fs/cgroup/a/memory.max": "2000\n"}, 2000},
		"container":           {map[string]string{"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "500\n"}, 500},
		"outside the root":    {map[string]string{"proc/self/cgroup": "0::/../x\n", "sys/fs/cgroup/x/memory.max": "500\n"}, 500},
		"more than there is":  {map[string]string{"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "99999999999999\n"}, ram},
		"version 1":           {map[string]string{"proc/self/cgroup": "3:cpu,cpuacct:/c\n2:memory:/m\n", "sys/fs/cgroup/memory/m/memory.limit_in_bytes": "700\n", "sys/fs/cgroup/memory/c/memory.limit_in_bytes": "5\n"}, 700},
		"no limit, version 1": {map[string]string{"proc/self/cgroup": "2:memory:/m\n", "sys/fs/cgroup/memory/m/memory.limit_in_bytes": "9223372036854771712\n"}, ram},
		"nonsense":            {map[string]string{"proc/self/cgroup": "\nx\n0::\n", "sys/fs/cgroup/memory.max": "?\n"}, ram},
	} {
		fs := fstest.MapFS{}
		for path, text := range c.files {
			fs[path] = &fstest.MapFile{Data: []byte(text)}
		}
		if got := memoryWithin(fs, ram); got != c.want {
			t.Errorf("%s: %d, not %d", name, got, c.want)
		}
	}
}

func TestMachineMemory(t *testing.T) {
	if n := machineMemory(); n < mib {
		t.Errorf("this machine has %d bytes", n)
	}
}
