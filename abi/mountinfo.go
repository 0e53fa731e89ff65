package abi

import (
	"strconv"
	"strings"
)

// UnescapeMount turns \040 and the other octal escapes of mountinfo back into their bytes:
// proc_pid_mountinfo(5). What the kernel would not have written is left as it is.
func UnescapeMount(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
