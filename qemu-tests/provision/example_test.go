package provision_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"

	"gommu/qemu-tests/provision"
)

// A test asks for the hardware and skips itself with the error, which says what to do.
func ExampleFindKernel() {
	os.Unsetenv("GOMMU_KERNEL")
	os.Unsetenv("GOMMU_MODULES")
	_, err := provision.FindKernel(provision.Options{Cache: filepath.Join(os.TempDir(), "no such cache")})
	if errors.Is(err, provision.ErrNoKernel) {
		fmt.Println("skip:", err)
	}
	// Output:
	// skip: provision: find kernel: no guest kernel found; run: go run ./cmd/gommu setup (or make setup), or set GOMMU_KERNEL and GOMMU_MODULES
}

// A command provides the hardware and shows how far it is.
func ExampleSetup() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	in, err := provision.Setup(ctx, provision.Options{Progress: provision.Display(os.Stderr)})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return
	}
	for _, q := range in.QEMUs {
		fmt.Println("QEMU", q.Version, q.Path)
	}
	fmt.Println("kernel", in.Kernel.Release)
}
