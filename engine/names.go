package engine

import "github.com/kakuri/kakuri/internal/files"

// Names for containers that got none: a word for how, a river or mountain of Japan.
var (
	manners = [...]string{
		"amber", "brisk", "calm", "clear", "clever", "cosy", "crisp", "deep", "eager", "early", "fair", "fleet", "fresh",
		"gentle", "glad", "golden", "grand", "green", "honest", "humble", "jolly", "keen", "kind", "light", "lively",
		"lucid", "mellow", "merry", "mild", "neat", "noble", "patient", "plain", "proud", "quick", "quiet", "rapid",
		"ready", "serene", "sharp", "silent", "sleek", "smooth", "snug", "solid", "steady", "still", "sunny", "swift",
		"tidy", "tranquil", "true", "vivid", "warm", "wise", "witty",
	}
	places = [...]string{
		"abukuma", "agano", "asahi", "aso", "chikuma", "chokai", "daisen", "edo", "fuji", "hakusan", "hie", "hiei",
		"hira", "hotaka", "ibuki", "ishikari", "ishizuchi", "iwate", "kamo", "katsura", "kirishima", "kiso", "kitakami",
		"kuma", "kurama", "mogami", "myogi", "nagara", "nantai", "nikko", "ontake", "rishiri", "sagami", "shinano",
		"shimanto", "shirane", "sumida", "takao", "takachiho", "tama", "tanzawa", "tateyama", "tenryu", "tokachi",
		"tone", "tsukuba", "unzen", "yari", "yodo", "yoshino", "zao",
	}
)

func randomName() string {
	var b [4]byte
	files.Random(b[:])
	n := int(b[0]) | int(b[1])<<8
	m := int(b[2]) | int(b[3])<<8
	return manners[n%len(manners)] + "_" + places[m%len(places)]
}
