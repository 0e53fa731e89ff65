package netip

import (
	"errors"
	"strconv"
)

// An Addr is an IPv4 or IPv6 address, without a zone. It can be compared by ==, and the zero
// value is no address.
type Addr struct {
	hi, lo uint64 // as of IPv6; an IPv4 address is the low 32 bits of lo
	bits   uint8  // 0, 32 or 128
}

// A Family is IPv4 or IPv6: there is no third one.
type Family bool

// The families, in the order in which they are listed.
const (
	IPv4 Family = false
	IPv6 Family = true
)

// String gives "IPv4" or "IPv6".
func (f Family) String() string {
	if f == IPv6 {
		return "IPv6"
	}
	return "IPv4"
}

// AddrFrom4 makes the IPv4 address of its bytes.
func AddrFrom4(b [4]byte) Addr {
	return Addr{lo: uint64(b[0])<<24 | uint64(b[1])<<16 | uint64(b[2])<<8 | uint64(b[3]), bits: 32}
}

// AddrFrom16 makes the IPv6 address of its bytes.
func AddrFrom16(b [16]byte) Addr {
	a := Addr{bits: 128}
	for i := range 8 {
		a.hi, a.lo = a.hi<<8|uint64(b[i]), a.lo<<8|uint64(b[i+8])
	}
	return a
}

// AddrFromSlice makes the address of 4 or 16 bytes.
func AddrFromSlice(b []byte) (Addr, bool) {
	switch len(b) {
	case 4:
		return AddrFrom4([4]byte(b)), true
	case 16:
		return AddrFrom16([16]byte(b)), true
	}
	return Addr{}, false
}

// IPv4Unspecified is 0.0.0.0.
func IPv4Unspecified() Addr { return Addr{bits: 32} }

// IPv6Unspecified is ::.
func IPv6Unspecified() Addr { return Addr{bits: 128} }

// IsValid tells an address from the zero value.
func (a Addr) IsValid() bool { return a.bits != 0 }

// Is4 tells IPv4.
func (a Addr) Is4() bool { return a.bits == 32 }

// Is6 tells IPv6, ::ffff:1.2.3.4 included.
func (a Addr) Is6() bool { return a.bits == 128 }

// Family is that of a valid address.
func (a Addr) Family() Family { return Family(a.Is6()) }

// Is4In6 tells IPv6 addresses that stand for one of IPv4.
func (a Addr) Is4In6() bool { return a.Is6() && a.hi == 0 && a.lo>>32 == 0xffff }

// Unmap gives the IPv4 address that one of IPv6 stands for, others as they are.
func (a Addr) Unmap() Addr {
	if a.Is4In6() {
		return Addr{lo: a.lo & 0xffffffff, bits: 32}
	}
	return a
}

// BitLen is 32 or 128, 0 for the zero value.
func (a Addr) BitLen() int { return int(a.bits) }

// As4 gives the bytes of an IPv4 address; of another one it panics.
func (a Addr) As4() [4]byte {
	if a = a.Unmap(); !a.Is4() {
		panic("As4 of " + a.String())
	}
	return [4]byte{byte(a.lo >> 24), byte(a.lo >> 16), byte(a.lo >> 8), byte(a.lo)}
}

// As16 gives the bytes of an IPv6 address; one of IPv4 becomes ::ffff:a.b.c.d.
func (a Addr) As16() (b [16]byte) {
	if a.Is4() {
		a.lo |= 0xffff << 32
	}
	for i := range 8 {
		b[i], b[i+8] = byte(a.hi>>(56-8*i)), byte(a.lo>>(56-8*i))
	}
	return b
}

// AsSlice gives 4 or 16 bytes, none of the zero value.
func (a Addr) AsSlice() []byte {
	switch a.bits {
	case 32:
		b := a.As4()
		return b[:]
	case 128:
		b := a.As16()
		return b[:]
	}
	return nil
}

// IsUnspecified tells 0.0.0.0 and ::.
func (a Addr) IsUnspecified() bool { return a.IsValid() && a.hi|a.lo == 0 }

// IsLoopback tells 127.0.0.0/8 and ::1.
func (a Addr) IsLoopback() bool {
	a = a.Unmap()
	return a.Is4() && a.lo>>24 == 127 || a.Is6() && a.hi == 0 && a.lo == 1
}

// OrLoopback is the loopback address of its family for 0.0.0.0 and ::, by which who connects means this machine as well, and otherwise the address itself.
func (a Addr) OrLoopback() Addr {
	switch {
	case !a.IsUnspecified():
		return a
	case a.Is4():
		return AddrFrom4([4]byte{127, 0, 0, 1})
	}
	return Addr{lo: 1, bits: 128}
}

// IsMulticast tells 224.0.0.0/4 and ff00::/8.
func (a Addr) IsMulticast() bool {
	a = a.Unmap()
	return a.Is4() && a.lo>>28 == 0xe || a.Is6() && a.hi>>56 == 0xff
}

// IsLinkLocalUnicast tells 169.254.0.0/16 and fe80::/10.
func (a Addr) IsLinkLocalUnicast() bool {
	a = a.Unmap()
	return a.Is4() && a.lo>>16 == 0xa9fe || a.Is6() && a.hi>>54 == 0xfe80>>6
}

// Compare orders addresses, those of IPv4 first: -1, 0 or 1.
func (a Addr) Compare(b Addr) int {
	switch {
	case a == b:
		return 0
	case a.bits < b.bits, a.bits == b.bits && (a.hi < b.hi || a.hi == b.hi && a.lo < b.lo):
		return -1
	}
	return 1
}

// Less is Compare below 0.
func (a Addr) Less(b Addr) bool { return a.Compare(b) < 0 }

// Next is the address after a; the zero value after the last one.
func (a Addr) Next() Addr {
	a.lo++
	switch {
	case a.Is4() && a.lo>>32 != 0:
		return Addr{}
	case a.Is6() && a.lo == 0:
		if a.hi++; a.hi == 0 {
			return Addr{}
		}
	case !a.IsValid():
		return Addr{}
	}
	return a
}

// Prev is the address before a; the zero value before the first one.
func (a Addr) Prev() Addr {
	if a.hi|a.lo == 0 {
		return Addr{}
	}
	if a.lo == 0 {
		a.hi--
	}
	a.lo--
	return a
}

// String is the text of RFC 5952, "invalid IP" of the zero value.
func (a Addr) String() string {
	switch {
	case !a.IsValid():
		return "invalid IP"
	case a.Is4():
		return string(a.append4(make([]byte, 0, 15)))
	case a.Is4In6():
		return string(a.Unmap().append4([]byte("::ffff:")))
	}
	return string(a.append6(make([]byte, 0, 39)))
}

func (a Addr) append4(b []byte) []byte {
	for i, part := range a.As4() {
		if i > 0 {
			b = append(b, '.')
		}
		b = strconv.AppendUint(b, uint64(part), 10)
	}
	return b
}

// group is the ith of the eight parts of an IPv6 address.
func (a Addr) group(i int) uint16 {
	if i < 4 {
		return uint16(a.hi >> (48 - 16*i))
	}
	return uint16(a.lo >> (48 - 16*(i-4)))
}

func (a Addr) append6(b []byte) []byte {
	from, to := -1, -1 // of the first longest run of zeros, two at least
	for i := 0; i < 8; i++ {
		j := i
		for j < 8 && a.group(j) == 0 {
			j++
		}
		if j-i >= 2 && j-i > to-from {
			from, to = i, j
		}
	}
	for i := 0; i < 8; i++ {
		if i == from {
			b = append(b, ':', ':')
			if i = to; i >= 8 {
				break
			}
		} else if i > 0 {
			b = append(b, ':')
		}
		b = strconv.AppendUint(b, uint64(a.group(i)), 16)
	}
	return b
}

// MarshalText is String; the zero value is empty.
func (a Addr) MarshalText() ([]byte, error) {
	if !a.IsValid() {
		return []byte{}, nil
	}
	return []byte(a.String()), nil
}

// UnmarshalText reads what MarshalText wrote.
func (a *Addr) UnmarshalText(text []byte) (err error) {
	*a = Addr{}
	if len(text) > 0 {
		*a, err = ParseAddr(string(text))
	}
	return err
}

// ParseAddr reads an address: 192.0.2.1, 2001:db8::1, ::ffff:192.0.2.1. Zones are refused.
func ParseAddr(s string) (Addr, error) {
	for i := range len(s) {
		switch s[i] {
		case '.':
			if v, ok := parse4(s); ok {
				return Addr{lo: uint64(v), bits: 32}, nil
			}
			return Addr{}, notAn("address", s)
		case ':':
			if a, ok := parse6(s); ok {
				return a, nil
			}
			return Addr{}, notAn("address", s)
		}
	}
	return Addr{}, notAn("address", s)
}

func notAn(what, s string) error { return errors.New(strconv.Quote(s) + " is no IP " + what) }

// MustParseAddr is for constants: it panics.
func MustParseAddr(s string) Addr {
	a, err := ParseAddr(s)
	if err != nil {
		panic(err)
	}
	return a
}

// number reads up to most digits of a base at the head of s.
func number(s string, base uint32, most int) (v uint32, n int) {
	for n < len(s) && n < most {
		d := uint32(s[n])
		switch {
		case d >= '0' && d <= '9':
			d -= '0'
		case d|0x20 >= 'a':
			d = d | 0x20 - 'a' + 10
		default:
			return v, n
		}
		if d >= base {
			return v, n
		}
		v, n = v*base+d, n+1
	}
	return v, n
}

func parse4(s string) (v uint32, ok bool) {
	for i := range 4 {
		if i > 0 {
			if s == "" || s[0] != '.' {
				return 0, false
			}
			s = s[1:]
		}
		part, n := number(s, 10, 3)
		if n == 0 || part > 255 || n > 1 && s[0] == '0' {
			return 0, false // a leading zero means octal to some
		}
		v, s = v<<8|part, s[n:]
	}
	return v, s == ""
}

func parse6(s string) (Addr, bool) {
	var groups [8]uint16
	n, gap := 0, -1
	if len(s) >= 2 && s[:2] == "::" {
		gap, s = 0, s[2:]
	}
	for s != "" {
		if n == 8 {
			return Addr{}, false
		}
		part, digits := number(s, 16, 4)
		if digits == 0 {
			return Addr{}, false
		}
		if digits < len(s) && s[digits] == '.' {
			v, ok := parse4(s)
			if !ok || n > 6 {
				return Addr{}, false
			}
			groups[n], groups[n+1] = uint16(v>>16), uint16(v)
			n, s = n+2, ""
			break
		}
		groups[n] = uint16(part)
		n, s = n+1, s[digits:]
		if s == "" {
			break
		}
		if s[0] != ':' || len(s) == 1 {
			return Addr{}, false
		}
		if s = s[1:]; s[0] == ':' {
			if gap >= 0 {
				return Addr{}, false
			}
			gap, s = n, s[1:]
		}
	}
	if gap < 0 && n < 8 || gap >= 0 && n == 8 {
		return Addr{}, false
	}
	if gap >= 0 {
		copy(groups[8-(n-gap):], groups[gap:n])
		clear(groups[gap : 8-(n-gap)])
	}
	a := Addr{bits: 128}
	for i := range 4 {
		a.hi, a.lo = a.hi<<16|uint64(groups[i]), a.lo<<16|uint64(groups[i+4])
	}
	return a, true
}

// A Prefix is an address with the number of bits that belong to its network: 172.17.0.1/16. The zero value
// is none.
type Prefix struct {
	addr Addr
	bits uint8 // one more than it says, so that the zero value is no prefix
}

// PrefixFrom puts one together; it is the zero value where bits do not fit the address.
func PrefixFrom(a Addr, bits int) Prefix {
	if !a.IsValid() || bits < 0 || bits > a.BitLen() {
		return Prefix{}
	}
	return Prefix{addr: a, bits: uint8(bits) + 1}
}

// Addr is the address, with its bits outside the network.
func (p Prefix) Addr() Addr { return p.addr }

// Bits is the length, -1 of the zero value.
func (p Prefix) Bits() int { return int(p.bits) - 1 }

// IsValid tells a prefix from the zero value.
func (p Prefix) IsValid() bool { return p.bits > 0 }

// IsSingleIP tells a prefix that has one address.
func (p Prefix) IsSingleIP() bool { return p.Bits() == p.addr.BitLen() }

// Masked is the network: p with all other bits 0.
func (p Prefix) Masked() Prefix {
	if !p.IsValid() {
		return p
	}
	off := uint(p.addr.BitLen() - p.Bits()) // bits to clear
	if off >= 64 {
		p.addr.hi = p.addr.hi >> (off - 64) << (off - 64)
		p.addr.lo = 0
		return p
	}
	p.addr.lo = p.addr.lo >> off << off
	return p
}

// Contains reports whether a is in the network.
func (p Prefix) Contains(a Addr) bool {
	return p.IsValid() && a.bits == p.addr.bits && p.Masked().addr == Prefix{addr: a, bits: p.bits}.Masked().addr
}

// Overlaps reports whether the networks have an address in common.
func (p Prefix) Overlaps(o Prefix) bool {
	if p.Bits() > o.Bits() {
		p, o = o, p
	}
	return p.Contains(o.addr)
}

// Last is the last address of the network: its broadcast address, if it is one of IPv4. net/netip has none.
func (p Prefix) Last() Addr {
	if !p.IsValid() {
		return Addr{}
	}
	a := p.addr
	off := uint(a.BitLen() - p.Bits())
	if off >= 64 {
		a.lo = ^uint64(0)
		a.hi |= 1<<(off-64) - 1
		return a
	}
	a.lo |= 1<<off - 1
	return a
}

// String is ADDRESS/BITS, "invalid Prefix" of the zero value.
func (p Prefix) String() string {
	if !p.IsValid() {
		return "invalid Prefix"
	}
	return p.addr.String() + "/" + strconv.Itoa(p.Bits())
}

// MarshalText is String; the zero value is empty.
func (p Prefix) MarshalText() ([]byte, error) {
	if !p.IsValid() {
		return []byte{}, nil
	}
	return []byte(p.String()), nil
}

// UnmarshalText reads what MarshalText wrote.
func (p *Prefix) UnmarshalText(text []byte) (err error) {
	*p = Prefix{}
	if len(text) > 0 {
		*p, err = ParsePrefix(string(text))
	}
	return err
}

// ParsePrefix reads ADDRESS/BITS.
func ParsePrefix(s string) (Prefix, error) {
	for i := len(s) - 1; i >= 0; i-- {
		if s[i] != '/' {
			continue
		}
		a, err := ParseAddr(s[:i])
		length := s[i+1:]
		n, digits := number(length, 10, 3)
		if err != nil || digits == 0 || digits < len(length) || digits > 1 && length[0] == '0' || int(n) > a.BitLen() {
			break
		}
		return PrefixFrom(a, int(n)), nil
	}
	return Prefix{}, notAn("prefix", s)
}

// MustParsePrefix is for constants: it panics.
func MustParsePrefix(s string) Prefix {
	p, err := ParsePrefix(s)
	if err != nil {
		panic(err)
	}
	return p
}
