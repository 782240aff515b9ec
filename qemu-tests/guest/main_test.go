package guest

import (
	"testing"

	"gommu/qemu-tests/vm/guest"
)

func TestMain(m *testing.M) { guest.Main(m) }
