package image

import (
	"fmt"
	"runtime"
	"strings"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// A Platform is os, architecture and variant, as image-spec has them. Zero is this machine's.
type Platform = v1.Platform

// Host is the platform of this machine.
func Host() Platform {
	return normal(Platform{OS: "linux", Architecture: runtime.GOARCH})
}

// ParsePlatform reads OS/ARCH[/VARIANT], OS or ARCH, as Docker's --platform does.
func ParsePlatform(s string) (Platform, error) {
	p := Host()
	parts := strings.Split(strings.ToLower(s), "/")
	for _, part := range parts {
		if part == "" || !isLower(part[0]) || strings.Trim(part, "abcdefghijklmnopqrstuvwxyz0123456789._-") != "" {
			return Platform{}, fmt.Errorf("platform %q: want OS/ARCH or OS/ARCH/VARIANT, as in linux/arm64", s)
		}
	}
	switch len(parts) {
	case 1:
		switch parts[0] {
		case "linux", "windows", "darwin", "freebsd", "wasip1", "wasi":
			p.OS = parts[0]
		default:
			p.Architecture, p.Variant = parts[0], ""
		}
	case 2:
		p = Platform{OS: parts[0], Architecture: parts[1]}
	case 3:
		p = Platform{OS: parts[0], Architecture: parts[1], Variant: parts[2]}
	default:
		return Platform{}, fmt.Errorf("platform %q: want OS/ARCH or OS/ARCH/VARIANT, as in linux/arm64", s)
	}
	return normal(p), nil
}

// normal gives a platform the one spelling of several.
func normal(p Platform) Platform {
	switch p.OS {
	case "", "macos":
		p.OS = map[string]string{"": "linux", "macos": "darwin"}[p.OS]
	}
	switch p.Architecture {
	case "":
		p.Architecture = runtime.GOARCH
	case "x86_64", "x86-64":
		p.Architecture = "amd64"
	case "i386", "i486", "i686", "x86":
		p.Architecture = "386"
	case "aarch64":
		p.Architecture = "arm64"
	case "armhf":
		p.Architecture, p.Variant = "arm", "v7"
	case "armel":
		p.Architecture, p.Variant = "arm", "v6"
	}
	switch {
	case p.Architecture == "arm64" && (p.Variant == "8" || p.Variant == "v8"):
		p.Variant = ""
	case p.Architecture == "arm" && p.Variant == "":
		p.Variant = "v7"
	case p.Architecture == "arm" && len(p.Variant) == 1:
		p.Variant = "v" + p.Variant
	case p.Architecture == "amd64" && p.Variant == "v1":
		p.Variant = ""
	}
	return p
}

// formatPlatform is the text that ParsePlatform reads.
func formatPlatform(p Platform) string {
	s := p.OS + "/" + p.Architecture
	if p.Variant != "" {
		s += "/" + p.Variant
	}
	return s
}

// fits rates how well a machine of platform want runs an image for have: 0 not at all, and more is better.
func fits(want, have Platform) int {
	want, have = normal(want), normal(have)
	if want.OS != have.OS {
		return 0
	}
	if want.Architecture == have.Architecture {
		switch {
		case want.Variant == have.Variant:
			return 100
		case have.Variant == "":
			return 90
		case have.Variant < want.Variant: // v6 for v7, v2 for v3
			return 50 + int(have.Variant[len(have.Variant)-1]-'0')
		}
	}
	return 0
}

// Runs says whether this kernel can run programs of a platform: err that it never can, and foreign, which is a sentence of Docker's, that it
// needs an emulator, which may be there.
func Runs(p Platform) (foreign string, err error) {
	p = normal(p)
	here := Host()
	if p.OS != here.OS {
		return "", fmt.Errorf("image operating system %q cannot be used on this platform: operating system is not supported", p.OS)
	}
	narrow := map[string]string{"amd64": "386", "arm64": "arm"}[here.Architecture]
	if p.Architecture != narrow && fits(here, p) == 0 {
		foreign = fmt.Sprintf("The requested image's platform (%s) does not match the detected host platform (%s)", formatPlatform(p), formatPlatform(here))
	}
	return foreign, nil
}

// attests is the annotation by which an attestation in an index names the manifest that it is about.
const attests = "vnd.docker.reference.digest"

// attestation reports whether a descriptor of an index is no image but says something of one, as BuildKit adds.
func attestation(d v1.Descriptor) bool {
	return d.Annotations["vnd.docker.reference.type"] != "" || d.Platform != nil && d.Platform.OS == "unknown"
}

// choose picks the best manifest of an index for a platform; nil when none fits.
func choose(index v1.Index, want Platform) *v1.Descriptor {
	var best *v1.Descriptor
	score := 0
	for i, d := range index.Manifests {
		if attestation(d) || !isManifest(d.MediaType) && !isIndex(d.MediaType) {
			continue
		}
		n := 1 // an index of one image may leave the platform out
		if d.Platform != nil {
			n = fits(want, *d.Platform)
		} else if len(index.Manifests) > 1 {
			n = 0
		}
		if n > score {
			best, score = &index.Manifests[i], n
		}
	}
	return best
}

// platforms lists what an index has, for errors.
func platforms(index v1.Index) string {
	var list []string
	more := 0
	for _, d := range index.Manifests {
		switch {
		case d.Platform == nil || attestation(d):
		case len(list) == maxTold:
			more++
		default:
			list = append(list, printable(formatPlatform(normal(*d.Platform))))
		}
	}
	if len(list) == 0 {
		return "none"
	}
	told := strings.Join(list, ", ")
	if more > 0 {
		told += fmt.Sprintf(" and %d more", more)
	}
	return told
}
