package v1

import (
	"time"

	"github.com/kakuri/kakuri/digest"
)

const (
	MediaTypeImageIndex     = "application/vnd.oci.image.index.v1+json"
	MediaTypeImageManifest  = "application/vnd.oci.image.manifest.v1+json"
	MediaTypeImageConfig    = "application/vnd.oci.image.config.v1+json"
	MediaTypeImageLayer     = "application/vnd.oci.image.layer.v1.tar"
	MediaTypeImageLayerGzip = "application/vnd.oci.image.layer.v1.tar+gzip"
	MediaTypeImageLayerZstd = "application/vnd.oci.image.layer.v1.tar+zstd"

	ImageLayoutFile    = "oci-layout"
	ImageLayoutVersion = "1.0.0"

	AnnotationRefName = "org.opencontainers.image.ref.name" // of a descriptor in a layout's index.json
)

// ImageLayout is the file oci-layout.
type ImageLayout struct {
	Version string `json:"imageLayoutVersion"`
}

// Versioned is 2 in manifests and indexes.
type Versioned struct {
	SchemaVersion int `json:"schemaVersion"`
}

// A Descriptor says where content is, by its digest.
type Descriptor struct {
	MediaType    string            `json:"mediaType"`
	Digest       digest.Digest     `json:"digest"`
	Size         int64             `json:"size"` // bytes
	URLs         []string          `json:"urls,omitempty"`
	Annotations  map[string]string `json:"annotations,omitempty"`
	Data         []byte            `json:"data,omitempty"` // the content itself
	Platform     *Platform         `json:"platform,omitempty"`
	ArtifactType string            `json:"artifactType,omitempty"`
}

// A Platform is what an image runs on, in Go's words.
type Platform struct {
	Architecture string   `json:"architecture"`
	OS           string   `json:"os"`
	OSVersion    string   `json:"os.version,omitempty"`
	OSFeatures   []string `json:"os.features,omitempty"`
	Variant      string   `json:"variant,omitempty"`
}

// An Index lists manifests, of one image for several platforms mostly.
type Index struct {
	Versioned
	MediaType    string            `json:"mediaType,omitempty"`
	ArtifactType string            `json:"artifactType,omitempty"`
	Manifests    []Descriptor      `json:"manifests"`
	Subject      *Descriptor       `json:"subject,omitempty"`
	Annotations  map[string]string `json:"annotations,omitempty"`
}

// A Manifest is an image: its config, and its layers, the lowest first.
type Manifest struct {
	Versioned
	MediaType    string            `json:"mediaType,omitempty"`
	ArtifactType string            `json:"artifactType,omitempty"`
	Config       Descriptor        `json:"config"`
	Layers       []Descriptor      `json:"layers"`
	Subject      *Descriptor       `json:"subject,omitempty"`
	Annotations  map[string]string `json:"annotations,omitempty"`
}

// ImageConfig is what a container of an image has unless it is told otherwise.
type ImageConfig struct {
	User         string              `json:"User,omitempty"`
	ExposedPorts map[string]struct{} `json:"ExposedPorts,omitempty"`
	Env          []string            `json:"Env,omitempty"`
	Entrypoint   []string            `json:"Entrypoint,omitempty"`
	Cmd          []string            `json:"Cmd,omitempty"`
	Volumes      map[string]struct{} `json:"Volumes,omitempty"`
	WorkingDir   string              `json:"WorkingDir,omitempty"`
	Labels       map[string]string   `json:"Labels,omitempty"`
	StopSignal   string              `json:"StopSignal,omitempty"`
	ArgsEscaped  bool                `json:"ArgsEscaped,omitempty"` // of Windows
}

// RootFS names the layers by their uncompressed content.
type RootFS struct {
	Type    string          `json:"type"` // layers
	DiffIDs []digest.Digest `json:"diff_ids"`
}

// A History is a step by which an image was built.
type History struct {
	Created    *time.Time `json:"created,omitempty"`
	CreatedBy  string     `json:"created_by,omitempty"`
	Author     string     `json:"author,omitempty"`
	Comment    string     `json:"comment,omitempty"`
	EmptyLayer bool       `json:"empty_layer,omitempty"`
}

// An Image is a config as OCI has it.
type Image struct {
	Created *time.Time `json:"created,omitempty"`
	Author  string     `json:"author,omitempty"`
	Platform
	Config  ImageConfig `json:"config,omitempty"`
	RootFS  RootFS      `json:"rootfs"`
	History []History   `json:"history,omitempty"`
}

// A DockerOCIImage is a config as Docker has it. (Its Config takes the place of OCI's.)
type DockerOCIImage struct {
	Image
	Config DockerOCIImageConfig `json:"config,omitempty"`
}

// DockerOCIImageConfig is an ImageConfig, and more.
type DockerOCIImageConfig struct {
	ImageConfig
	DockerOCIImageConfigExt
}

// DockerOCIImageConfigExt is what is Docker's own.
type DockerOCIImageConfigExt struct {
	Healthcheck *HealthcheckConfig `json:",omitempty"`
	OnBuild     []string           `json:",omitempty"`
	Shell       []string           `json:",omitempty"`
}

// HealthcheckConfig says how a container is asked whether it is well; zero is what the image below says.
type HealthcheckConfig struct {
	Test          []string      `json:",omitempty"` // NONE; CMD and arguments; CMD-SHELL and a line
	Interval      time.Duration `json:",omitempty"`
	Timeout       time.Duration `json:",omitempty"`
	StartPeriod   time.Duration `json:",omitempty"`
	StartInterval time.Duration `json:",omitempty"`
	Retries       int           `json:",omitempty"`
}
