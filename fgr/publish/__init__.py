"""What goes to the Hugging Face Hub: checked, packed with its card, uploaded."""
