#!/bin/sh
# System libraries of Qt's offscreen platform, for the tests of the window, where apt-get can install them. Without them these tests skip.
packages="libegl1 libgl1 libxkbcommon0 libfontconfig1 libglib2.0-0 libx11-6 libzstd1 fonts-dejavu-core"
if [ "$(id -u)" = 0 ] && command -v apt-get > /dev/null; then
    apt-get update -qq && apt-get install -y -qq --no-install-recommends $packages
else
    echo "The tests of the window will be skipped. They need: $packages"
fi
