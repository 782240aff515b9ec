package provision

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
)

// kernelPackages are the packages that depend on the kernel to use, the first that the distribution has: Debian 12's
// 6.12 (its own 6.1 lacks iommufd), other Debians' and Ubuntu's current one.
var kernelPackages = []string{"linux-image-6.12-amd64", "linux-image-amd64", "linux-image-generic", "linux-image-virtual"}

// nextPackages are those for the kernel of the next release: whatever it is.
var nextPackages = kernelPackages[1:]

// planKernel returns the packages that hold the kernel and its modules, the first the image's, of the first of the names that there is.
// What else the kernel depends on (tools, an initramfs, firmware) is for machines that boot it from disk.
func (a *apt) planKernel(ctx context.Context, names []string, from release) ([]pkg, error) {
	for _, name := range names {
		pkgs, err := a.kernelClosure(ctx, name, from)
		if errors.Is(err, ErrNoPackage) {
			continue
		}
		return pkgs, err
	}
	return nil, &Error{Op: "look up", Name: strings.Join(names, ", "), Err: ErrNoPackage, Remedy: remedyInstall}
}

// kernelClosure follows the kernel packages that a kernel package depends on. One that does is a meta package when it
// was the first, and then not wanted itself.
func (a *apt) kernelClosure(ctx context.Context, first string, from release) ([]pkg, error) {
	var pkgs []pkg
	queue, seen := []string{first}, map[string]bool{first: true}
	for len(queue) > 0 {
		name := queue[0]
		queue = queue[1:]
		st, ok, err := a.candidate(ctx, name, from)
		if err != nil {
			return nil, err
		}
		p, valid := parsePackage(st)
		if !ok || !valid {
			return nil, &Error{Op: "look up", Name: name, Err: ErrNoPackage, Remedy: remedyInstall}
		}
		parts := kernelDepends(st)
		for _, part := range parts {
			if !seen[part] {
				seen[part] = true
				queue = append(queue, part)
			}
		}
		if name != first || len(parts) == 0 {
			pkgs = append(pkgs, p)
		}
	}
	return pkgs, nil
}

// kernelDepends returns the packages with parts of the kernel among the dependencies of a package, the first of alternatives.
func kernelDepends(st stanza) []string {
	var names []string
	for _, name := range []string{"Pre-Depends", "Depends"} {
		value, _ := st.get(name)
		for dep := range strings.SplitSeq(value, ",") {
			words := strings.FieldsFunc(dep, func(r rune) bool { return strings.ContainsRune(" \t\n(|:", r) })
			if len(words) > 0 && isKernelPart(words[0]) && !slices.Contains(names, words[0]) {
				names = append(names, words[0])
			}
		}
	}
	return names
}

// isKernelPart tells the packages of image and modules from the rest, and from Ubuntu's modules for rare hardware.
func isKernelPart(name string) bool {
	if strings.HasPrefix(name, "linux-modules-extra-") {
		return false
	}
	return slices.ContainsFunc([]string{"linux-image-", "linux-modules-", "linux-binary-"}, func(p string) bool { return strings.HasPrefix(name, p) })
}

const modulesDir = "usr/lib/modules/"

func keepKernel(name string) bool {
	return strings.HasPrefix(name, "boot/vmlinuz-") || strings.HasPrefix(name, "boot/config-") || strings.HasPrefix(name, modulesDir)
}

// findParts returns the release of the unpacked kernel and where its parts are.
func findParts(files map[string]unitFile) (release string, parts *kernelPart, err error) {
	for name := range files {
		rest, ok := strings.CutPrefix(name, modulesDir)
		if rel, _, inside := strings.Cut(rest, "/"); ok && inside && compareVersions(rel, release) > 0 {
			release = rel
		}
	}
	for _, image := range []string{"boot/vmlinuz-" + release, modulesDir + release + "/vmlinuz"} {
		if f, ok := files[image]; ok && f.Link == "" && release != "" {
			return release, &kernelPart{Image: f.Path, Modules: path.Join(treeName, modulesDir, release)}, nil
		}
	}
	return "", nil, &Error{Op: "unpack", Name: "kernel", Err: fmt.Errorf("%w: its packages hold no image with modules (release %q)", ErrNoPackage, release),
		Remedy: remedyInstall}
}
