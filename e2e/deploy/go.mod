// What tries deploy/ is a module of its own: its libraries are many, and no part of the product.
module foyer/e2e/deploy

go 1.26.8

require github.com/moby/patternmatcher v0.6.1
