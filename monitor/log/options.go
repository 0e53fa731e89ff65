package log

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Defaults of what a log may take: Docker sets no bounds for json-file, and has these for local.
const (
	defaultMaxSize    = 20 << 20
	defaultMaxFile    = 5
	defaultBufferSize = 1 << 20
)

// options are those of a driver, understood.
type options struct {
	maxSize     int64 // bytes; 0 is without end
	maxFile     int
	compress    bool
	nonBlocking bool
	bufferSize  int64 // bytes
	address     address
	facility    int
	format      string
}

// drivers lists the names that [Config.Driver] may have, in the order of their use.
func drivers() []string { return []string{"json-file", "local", "journald", "syslog", "none"} }

// Check reports whether a driver is there and its options are such as it takes: --log-driver and --log-opt, with Docker's names and
// values. It looks nothing up.
func Check(driver string, o map[string]string) error {
	_, err := parse(driver, o)
	return err
}

// known are the options of a driver, besides those that every one has.
func known(driver string) ([]string, bool) {
	extra := []string{"tag", "labels", "labels-regex", "env", "env-regex"}
	switch driver {
	case "", "json-file":
		return append(extra, "max-size", "max-file", "compress"), true
	case "local": // whose lines have no place for more
		return []string{"max-size", "max-file", "compress"}, true
	case "journald":
		return extra, true
	case "syslog":
		return append(extra, "syslog-address", "syslog-facility", "syslog-format", "syslog-tls-ca-cert", "syslog-tls-cert", "syslog-tls-key", "syslog-tls-skip-verify",
			"cache-disabled", "cache-max-size", "cache-max-file", "cache-compress"), true
	case "none":
		return nil, true
	}
	return nil, false
}

func parse(driver string, m map[string]string) (options, error) {
	o := options{maxSize: defaultMaxSize, maxFile: defaultMaxFile, compress: driver == "local" || driver == "syslog", bufferSize: defaultBufferSize, facility: 3}
	names, ok := known(driver)
	if !ok {
		return o, fmt.Errorf("logger: no log driver named '%s' is registered: there are %s", driver, strings.Join(drivers(), ", "))
	}
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys) // the same one is complained of each time
	for _, k := range keys {
		if k != "mode" && k != "max-buffer-size" && !slices.Contains(names, k) {
			return o, fmt.Errorf("unknown log opt '%s' for %s log driver", k, name(driver))
		}
		if err := o.set(k, m[k]); err != nil {
			return o, fmt.Errorf("log option %s=%s: %w", k, m[k], err)
		}
	}
	if m["max-buffer-size"] != "" && !o.nonBlocking {
		return o, fmt.Errorf("logger: max-buffer-size option is only supported with 'mode=non-blocking'")
	}
	if o.compress && m["compress"] == "true" && (o.maxFile < 2 || o.maxSize == 0) {
		return o, fmt.Errorf("compress cannot be true when max-file is less than 2 or max-size is not set")
	}
	if m["max-file"] != "" && m["max-size"] == "-1" && o.maxFile > 1 {
		return o, fmt.Errorf("max-size must be bounded for max-file=%d", o.maxFile)
	}
	if m["cache-disabled"] == "true" {
		o.maxFile = 0
	}
	return o, nil
}

func name(driver string) string {
	if driver == "" {
		return "json-file"
	}
	return driver
}

func (o *options) set(key, value string) (err error) {
	switch key {
	case "max-size", "cache-max-size":
		if value == "-1" {
			o.maxSize = 0
			return nil
		}
		o.maxSize, err = parseSize(value)
	case "max-file", "cache-max-file":
		if o.maxFile, err = strconv.Atoi(value); err == nil && o.maxFile < 1 {
			err = fmt.Errorf("a log has one file or more")
		}
	case "compress", "cache-compress":
		o.compress, err = strconv.ParseBool(value)
	case "cache-disabled", "syslog-tls-skip-verify":
		_, err = strconv.ParseBool(value)
	case "mode":
		o.nonBlocking = value == "non-blocking"
		if value != "" && value != "blocking" && !o.nonBlocking {
			err = fmt.Errorf("logger: logging mode not supported: %s: it is blocking or non-blocking", value)
		}
	case "max-buffer-size":
		o.bufferSize, err = parseSize(value)
	case "syslog-address":
		o.address, err = parseAddress(value)
	case "syslog-facility":
		o.facility, err = parseFacility(value)
	case "syslog-format":
		o.format = value
		if !slices.Contains([]string{"", "rfc3164", "rfc5424", "rfc5424micro"}, value) {
			err = fmt.Errorf("it is rfc3164, rfc5424 or rfc5424micro")
		}
	}
	return err
}

// parseSize reads a number of bytes with Docker's units, which are powers of 1024: "10m", "1.5 GB".
func parseSize(s string) (int64, error) {
	number := strings.TrimRight(s, "bBiIkKmMgGtTpP ")
	unit := strings.ToLower(strings.TrimSpace(s[len(number):]))
	f, err := strconv.ParseFloat(number, 64)
	if err != nil || f < 0 || math.IsNaN(f) {
		return 0, fmt.Errorf("%q is no size: a number and b, k, m or g", s)
	}
	shift := strings.IndexByte("bkmgtp", (unit + "b")[0])
	if rest := strings.TrimSuffix(strings.TrimSuffix(unit, "b"), "i"); shift < 0 || len(rest) > 1 {
		return 0, fmt.Errorf("%q is no size: a number and b, k, m or g", s)
	}
	f *= float64(int64(1) << (10 * shift))
	if f < 1 || f > math.MaxInt64/2 {
		return 0, fmt.Errorf("%q is no size of a file", s)
	}
	return int64(f), nil
}
