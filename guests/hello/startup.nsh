fs0:hello.efi
