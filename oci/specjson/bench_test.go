package specjson

import (
	"encoding/json"
	"os"
	"os/exec"
	"reflect"
	"slices"
	"strconv"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// The configs of the benchmarks: what runc spec writes, and what dockerd does.
var benchmarked = []string{"runc-default.json", "docker-default.json"}

// decoders are what the benchmarks compare.
func decoders(name string) func([]byte) error {
	if name == "specjson" {
		return func(data []byte) error {
			_, err := Decode(data)
			return err
		}
	}
	return func(data []byte) error { return json.Unmarshal(data, new(specs.Spec)) }
}

// coldDecoder, in the environment, makes the test binary do nothing but decode
// the document that coldFile names, once, and print how many nanoseconds it took.
const coldDecoder, coldFile = "SPECJSON_TEST_DECODER", "SPECJSON_TEST_FILE"

func TestMain(m *testing.M) {
	name := os.Getenv(coldDecoder)
	if name == "" {
		m.Run()
		return
	}
	data, err := os.ReadFile(os.Getenv(coldFile))
	if err != nil {
		panic(err)
	}
	decode := decoders(name)
	begin := time.Now()
	err = decode(data)
	took := time.Since(begin)
	if err != nil {
		panic(err)
	}
	os.Stdout.WriteString(strconv.FormatInt(took.Nanoseconds(), 10))
}

// cold decodes a document of testdata in a process of its own.
func cold(tb testing.TB, file, name string) time.Duration {
	tb.Helper()
	self, err := os.Executable()
	if err != nil {
		tb.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), coldDecoder+"="+name, coldFile+"=testdata/"+file)
	out, err := cmd.Output()
	if err != nil {
		tb.Fatal(err)
	}
	took, err := strconv.Atoi(string(out))
	if err != nil {
		tb.Fatal(err)
	}
	return time.Duration(took)
}

// TestCold keeps what this package is for: the first decoding in a process costs a
// small part of encoding/json's. Machines differ in what a page of memory costs, so
// the two are measured side by side; usual is a thirtieth and a fifteenth.
func TestCold(t *testing.T) {
	for _, file := range benchmarked {
		best := map[string]time.Duration{}
		for range 7 {
			for _, name := range []string{"specjson", "encoding/json"} {
				if took := cold(t, file, name); best[name] == 0 || took < best[name] {
					best[name] = took
				}
			}
		}
		if best["specjson"]*5 > best["encoding/json"] {
			t.Errorf("%s: %v, and with encoding/json %v", file, best["specjson"], best["encoding/json"])
		}
	}
}

// TestMemory keeps the allocations few and the decoder in two pages; see decoder.
func TestMemory(t *testing.T) {
	if size := reflect.TypeFor[decoder]().Size(); size > 8192 {
		t.Errorf("the decoder has %d bytes", size)
	}
	for file, most := range map[string]float64{"runc-default.json": 2, "docker-default.json": 40} {
		data := configs(t)[file]
		if n := testing.AllocsPerRun(20, func() { Decode(data) }); n > most {
			t.Errorf("%s: %v allocations", file, n)
		}
	}
}

// BenchmarkCold measures the first decoding in a process: ns/cold is the median
// over as many processes as the benchmark had rounds (-benchtime 200x).
func BenchmarkCold(b *testing.B) {
	for _, file := range benchmarked {
		for _, name := range []string{"specjson", "encoding/json"} {
			b.Run(file+"/"+name, func(b *testing.B) {
				var all []time.Duration
				for b.Loop() {
					all = append(all, cold(b, file, name))
				}
				slices.Sort(all)
				b.ReportMetric(float64(all[len(all)/2].Nanoseconds()), "ns/cold")
				b.ReportMetric(0, "ns/op")
			})
		}
	}
}

func BenchmarkWarm(b *testing.B) {
	for _, file := range benchmarked {
		data, err := os.ReadFile("testdata/" + file)
		if err != nil {
			b.Fatal(err)
		}
		for _, name := range []string{"specjson", "encoding/json"} {
			b.Run(file+"/"+name, func(b *testing.B) {
				decode := decoders(name)
				b.SetBytes(int64(len(data)))
				b.ReportAllocs()
				for b.Loop() {
					if err := decode(data); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
