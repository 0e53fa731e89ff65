// Package real has nothing but tests: programs as people run them (nginx, redis, postgres, out of Debian's packages, in images like the official
// ones) under the default posture, as root and as an ordinary user, by the command line.
package real
