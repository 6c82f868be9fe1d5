; SPDX-License-Identifier: MIT
; The framebuffer console's font: a PSF version 1 file with 8x16 glyphs, put under build/ by the
; Makefile from Debian's package console-setup-linux.

section .rodata
global font_psf, font_psf_end

font_psf:
    incbin "build/font.psf"
font_psf_end:
