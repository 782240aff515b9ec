package provision

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// qemuPackage is the package that has qemu-system-x86_64 in Debian and Ubuntu.
const qemuPackage = "qemu-system-x86"

// firmwareDirs are where QEMU's packages look for BIOS and option ROMs, in their order.
var firmwareDirs = []string{"usr/share/qemu", "usr/share/seabios", "usr/lib/ipxe/qemu"}

// libraries is where Debian and Ubuntu keep amd64's shared libraries, merged.
const libraries = "usr/lib/x86_64-linux-gnu"

// keepQEMU says which files of QEMU and its dependencies are kept: the emulator, libraries and firmware.
func keepQEMU(name string) bool {
	switch {
	case strings.HasPrefix(name, libraries+"/gconv/"), strings.HasPrefix(name, libraries+"/perl"):
		return false
	case name == "usr/bin/"+qemuName:
		return true
	}
	dirs := append([]string{libraries, "usr/lib64"}, firmwareDirs...)
	return slices.ContainsFunc(dirs, func(dir string) bool { return strings.HasPrefix(name, dir+"/") })
}

// wrapper starts the unpacked QEMU, wherever its folder lies, with the C library, modules and firmware beside it.
const wrapper = `#!/bin/sh
self=$0
if [ -L "$self" ]; then self=$(readlink -f "$self"); fi
case $self in */*) ;; *) self=./$self ;; esac
root=$(cd "${self%%/*}/.." && pwd -P)/%s || exit
unset LD_LIBRARY_PATH LD_PRELOAD LD_AUDIT
QEMU_MODULE_DIR=$root/%s/qemu
export QEMU_MODULE_DIR
exec "$root/%s" --library-path "%s" "$root/usr/bin/%s" %s "$@"
`

// writeWrapper puts the wrapper into the unit folder dir.
func writeWrapper(dir string, files map[string]unitFile) error {
	loader := "usr/lib64/ld-linux-x86-64.so.2"
	if _, ok := files[loader]; !ok {
		return &Error{Op: "unpack", Name: qemuPackage, Err: fmt.Errorf("%w: no %s among its dependencies", ErrNoPackage, loader), Remedy: remedyInstall}
	}
	var dirs []string
	for _, d := range libraryDirs(files) {
		dirs = append(dirs, "$root/"+d)
	}
	var firmware []string
	for _, d := range firmwareDirs {
		firmware = append(firmware, `-L "$root/`+d+`"`)
	}
	script := fmt.Sprintf(wrapper, treeName, libraries, loader, strings.Join(dirs, ":"), qemuName, strings.Join(firmware, " "))
	file := filepath.Join(dir, filepath.FromSlash(wrapperPath))
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	return os.WriteFile(file, []byte(script), 0o755)
}

// libraryDirs returns the folder of the libraries and, after it, those directly in it that hold some too, such as pulseaudio.
func libraryDirs(files map[string]unitFile) []string {
	dirs := []string{libraries}
	for name := range files {
		dir, base := path.Split(name)
		dir = path.Clean(dir)
		if path.Dir(dir) == libraries && strings.HasPrefix(base, "lib") && strings.Contains(base, ".so") && !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
	}
	slices.Sort(dirs)
	return dirs
}
