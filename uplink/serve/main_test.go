package serve

import (
	"os"
	"testing"

	"github.com/kakuri/kakuri/internal/nstest"
)

func TestMain(m *testing.M) { os.Exit(nstest.Main(m, nstest.Options{})) }
