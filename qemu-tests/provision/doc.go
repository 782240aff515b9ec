// Package provision gets the test hardware: QEMU and Linux kernels for its guests.
//
// Find looks them up: in the environment, in a cache folder of the user, and, for QEMU, in PATH. It uses no
// network, writes nothing and takes some ten milliseconds. Setup fetches what is missing: it asks the system's
// own package tools (apt-get, apt-cache, dpkg-deb) for the distribution's packages and unpacks them into the
// cache. It needs no root, installs nothing, and leaves the system's package database alone. Verify hashes
// every file of the cache.
//
// # Environment
//
//	GOMMU_QEMU     one or several QEMU executables, separated by ':'
//	GOMMU_KERNEL   a kernel image; needs GOMMU_MODULES
//	GOMMU_MODULES  that kernel's lib/modules/<release> folder
//	GOMMU_CACHE    the cache folder; without it "gommu" in the user's cache folder (os.UserCacheDir)
//
// # The cache
//
// The cache holds one folder a unit: the distribution's QEMU, the newer QEMU of its backports, its kernel, and the newer one of
// its next release.
//
//	<cache>/v1/lock                       held (flock) while a Setup changes the cache
//	<cache>/v1/staging-*                  a Setup at work; found with the lock free: the rest of a dead one
//	<cache>/v1/qemu-<version>/            manifest.json, bin/qemu-system-x86_64, root/...
//	<cache>/v1/qemu-backports-<version>/  the same; qemu-backports-none: its manifest says why there is none
//	<cache>/v1/kernel-<release>/          manifest.json, root/...
//	<cache>/v1/kernel-next-<release>/     the same; kernel-next-none: as qemu-backports-none
//
// A unit is made in a staging folder and renamed into place when it is whole and on disk, so it is there entirely
// or not at all. Its manifest lists the packages it came from and every file with size and SHA-256.
// The folder may be moved: a unit's QEMU starts from wherever it lies, with the C library that came with it.
//
// # Ownership and concurrency
//
// All functions may be called from several goroutines and processes at once; a second Setup waits for
// the first. Setup and Verify block for as long as the network and the disk take, or until ctx ends; the
// child processes of Setup run in process groups of their own and are killed with them.
package provision
