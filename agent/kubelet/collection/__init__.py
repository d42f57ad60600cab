"""Taking away what nobody needs any more: dead containers, unused images, long logs."""
