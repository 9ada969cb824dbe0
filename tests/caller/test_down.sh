#!/bin/sh
# Tests that `./run.sh down --rmi all -v` removes everything of this project and nothing else.
. "$(dirname -- "$0")/lib.sh"
images=$(docker images -q --filter label=org.nixos-image)
# Simulate a base image of the user's, which does not have our label.
made=$(docker create nixos-image-base true)
docker export "$made" | docker import - the-users-own:base > /dev/null
docker rm "$made" > /dev/null
docker tag the-users-own:base nixos-image-base
printf 'FROM scratch\nCOPY Dockerfile /\n' > "$work/Dockerfile"
docker build -q -t not-ours:latest "$work" > /dev/null 2>&1
docker volume create not-ours > /dev/null
expect "down" 0 '' "$project/run.sh" down --rmi all -v
check "no container is left" test -z "$(docker ps -aq --filter label=org.nixos-image; docker ps -aq --filter name=nixos-image)"
check "no image is left" test -z "$(docker images -q 'nixos-image-*'; docker images -aq --filter label=org.nixos-image)"
check "no volume is left" test -z "$(docker volume ls -q --filter name=nixos-image)"
check "no network is left" test -z "$(docker network ls -q --filter name=nixos-image)"
check "there were images before" test -n "$images"
check "a base image that the user has too is untouched" docker image inspect the-users-own:base -f ok
docker rmi the-users-own:base > /dev/null
check "other images are untouched" docker image inspect not-ours:latest -f ok
check "other volumes are untouched" docker volume inspect not-ours -f ok
docker rmi not-ours:latest > /dev/null
docker volume rm not-ours > /dev/null
# binfmt_misc entries of a run outlive the images, so `down` must check for them.
expect "down again makes an image to look with" 0 '^building an image first' "$project/run.sh" compose down --rmi all -v
check "and leaves none" test -z "$(docker images -q 'nixos-image-*'; docker images -aq --filter label=org.nixos-image)"
finish
