package image

// Settings say how registries are reached. They are read of files, see [ReadSettings], in JSON:
//
//	{
//	  "registries": {
//	    "docker.io": {"mirrors": ["https://mirror.example"]},
//	    "registry.lan:5000": {"ca": "/etc/ssl/registry.lan.pem"},
//	    "old.lan": {"insecure": true},
//	    "images.example": {"realms": ["login.example.org"]},
//	    "tracker.example": {"blocked": true}
//	  },
//	  "insecure": ["10.0.0.0/8"],
//	  "downloads": 4,
//	  "maxLayer": 68719476736,
//	  "maxRatio": 200,
//	  "keepBlobs": false
//	}
type Settings struct {
	// Registries by HOST or HOST:PORT, as the name is typed.
	Registries map[string]Registry `json:"registries"`
	// Insecure are networks and hosts whose registries may lack TLS or have a certificate that nobody signed. A network is compared
	// with an address that was typed, never with what a name resolves to.
	Insecure []string `json:"insecure"`
	// Downloads and Uploads bound how many layers are moved at once; 0 is 4.
	Downloads int `json:"downloads"`
	Uploads   int `json:"uploads"`
	// MaxLayer bounds a layer's tar, in bytes; 0 is 64 GiB.
	MaxLayer int64 `json:"maxLayer"`
	// MaxRatio bounds how much larger a layer's tar is than its blob, once it is past 256 MiB; 0 is 200.
	MaxRatio int64 `json:"maxRatio"`
	// KeepBlobs keeps layers in the compressed form in which they came as well: they are pushed and saved byte for byte wherever
	// they are from, and other programs read the store as an OCI layout. It takes some four tenths more of the disk. What was pulled
	// before is there after its next pull.
	KeepBlobs bool `json:"keepBlobs"`
}

// A Registry is what settings say of one host.
type Registry struct {
	Mirrors  []string `json:"mirrors"`  // URLs or hosts that are asked first, with a path perhaps
	Insecure bool     `json:"insecure"` // TLS is not verified, and plain HTTP will do
	CA       string   `json:"ca"`       // a file of certificates, PEM
	Cert     string   `json:"cert"`     // the client's, PEM
	Key      string   `json:"key"`
	Realms   []string `json:"realms"` // hosts of other owners that may be given the password, for a token
	Blocked  bool     `json:"blocked"`
}

const (
	defaultParallel = 4
	defaultMaxLayer = 64 << 30
	defaultMaxRatio = 200
)

func (s *Settings) downloads() int  { return between(1, s.Downloads, 16) }
func (s *Settings) uploads() int    { return between(1, s.Uploads, 16) }
func (s *Settings) maxLayer() int64 { return or(s.MaxLayer, defaultMaxLayer) }
func (s *Settings) maxRatio() int64 { return or(s.MaxRatio, defaultMaxRatio) }

func or(n, other int64) int64 {
	if n > 0 {
		return n
	}
	return other
}

func between(low, n, high int) int {
	if n <= 0 {
		n = defaultParallel
	}
	return max(low, min(n, high))
}
