package image

// PullOptions say what of an image is fetched.
type PullOptions struct {
	Platform     Platform // zero is this machine's
	AllPlatforms bool     // all that an index has, attestations too
	Credentials  *Credentials
	Progress     Progress `json:"-"`
}

// Credentials are what a registry knows a user by. An identity token stands in for a password; a registry token is sent as
// it is.
type Credentials struct {
	Username, Password string
	IdentityToken      string
	RegistryToken      string
}

func (c Credentials) empty() bool { return c == Credentials{} }
